"""Try libraries and dtypes in processes of their own, several at once.

One thread is enough for matrices as small as those of theorems, and a compiler uses one
core: what is left of a machine tries the other libraries. The settings are those of the
processes that are started here, never of the user's.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any, NamedTuple

from kfac_core.errors import ArgumentError
from kfac_core.theorems import Measured, Theorem
from kfac_core.verify.lapack import Ratio
from kfac_core.verify.libraries import LABEL, installed
from kfac_core.verify.report import Report, Result, Run
from kfac_core.verify.running import DTYPES, Progress

COMPILER = "XLA_FLAGS"

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Processes share the memory of a GPU.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # A small program is compiled in a third of the time.
    COMPILER: "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0",
}
"""Environment of the processes; a variable that the user has set stays as it is."""

ACCELERATORS = ("jax_plugins", "libtpu")
"""Packages with which JAX computes elsewhere; its compiler is then what is tried."""

AT_ONCE = 4
"""How many processes run at once, at the most: JAX takes more than half a gigabyte."""

REFUSED = f"kfac-core verify: {LABEL}: "
"""How an error of the command begins."""


class _Job(NamedTuple):
    """A process, the files that it writes, and its settings."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    started: float
    settings: dict[str, str]


def verify_side_by_side(
    libraries: Iterable[str] | None = None,
    *,
    dtypes: Iterable[str] = DTYPES,
    device: str | None = None,
    seed: int = 0,
    theorems: Sequence[Theorem],
    thorough: bool = False,
    progress: Progress = lambda line: None,
) -> Report:
    """Do what `verify` does, with a process for each library and dtype.

    Args:
        libraries: As for `verify`.
        dtypes: As for `verify`.
        device: As for `verify`.
        seed: As for `verify`.
        theorems: What to try, each one of `THEOREMS`.
        thorough: As for `verify`.
        progress: Is called with a line now and then.

    Returns:
        The report that `verify` would return. Where a process ended otherwise, its run
        has a problem, and the report is not ok.

    Raises:
        ArgumentError: If a process refuses what it was asked for.
    """
    named = installed() if libraries is None else libraries
    pairs = list(dict.fromkeys(product(named, dtypes)))
    asked = ["--seed", str(seed), "--theorem", *(own.name for own in theorems)]
    if device is not None:
        asked += ["--device", device]
    if thorough:
        asked.append("--thorough")
    runs: dict[Any, tuple[Run, list[Result], list[Ratio]]] = {}
    for pair, answer in _answers(pairs, asked, progress):
        runs[pair] = answer
    found = [runs[pair] for pair in pairs]
    return Report(
        seed,
        device,
        tuple(run for run, _, _ in found),
        tuple(theorems),
        tuple(result for _, results, _ in found for result in results),
        tuple(ratio for _, _, ratios in found for ratio in ratios),
    )


def _answers(
    pairs: Sequence[tuple[str, str]], asked: list[str], progress: Progress
) -> Iterator[tuple[tuple[str, str], Any]]:
    """Run a process for each pair, and yield what each found as soon as it ends."""
    waiting, at_once = list(pairs), min(_cores(), AT_ONCE)
    less = {name: value for name, value in SETTINGS.items() if name != COMPILER}
    on_cpu = "--device" not in asked and not any(map(find_spec, ACCELERATORS))
    settings = SETTINGS if on_cpu else less
    with TemporaryDirectory() as name, _ending() as running:
        folder = Path(name)
        while waiting or running:
            while waiting and len(running) < at_once:
                pair = waiting.pop(0)
                running[pair] = _started(folder, pair, asked, settings)
            done = len(pairs) - len(waiting) - len(running)
            told = (
                f"{' '.join(pair)} {perf_counter() - job.started:.0f} s"
                for pair, job in running.items()
            )
            progress(f"{done} of {len(pairs)} done; {', '.join(told)}")
            sleep(0.1)
            for pair, job in list(running.items()):
                if job.process.poll() is None:
                    continue
                del running[pair]
                out, err = (own.read_text("utf-8") for own in (job.out, job.err))
                if not out and COMPILER in err and COMPILER in job.settings:
                    # A release of JAX without these flags ends the process.
                    running[pair] = _started(folder, pair, asked, less)
                    continue
                yield pair, _answer(pair, job, out.strip(), err.strip())


@contextmanager
def _ending() -> Iterator[dict[tuple[str, str], _Job]]:
    """Yield a place for jobs, and end those that still run, whatever happens."""
    running: dict[tuple[str, str], _Job] = {}
    try:
        yield running
    finally:
        for job in running.values():
            job.process.kill()
            job.process.wait()


def _started(
    folder: Path, pair: tuple[str, str], asked: list[str], settings: dict[str, str]
) -> _Job:
    library, dtype = pair
    command = [sys.executable, "-P", "-m", "kfac_core", "verify", "--as-is", "--json"]
    out, err = (folder / f"{'-'.join(pair)}.{kind}" for kind in ("out", "err"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, f"--library={library}", f"--dtype={dtype}", *asked],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**settings, **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    return _Job(process, out, err, perf_counter(), settings)


def _answer(pair: tuple[str, str], job: _Job, out: str, err: str) -> Any:
    """Return what a process found, or that it did not."""
    try:
        plain = json.loads(out)
    except ValueError:
        if err.startswith(REFUSED):
            raise ArgumentError(err.removeprefix("kfac-core verify: ")) from None
        seconds = perf_counter() - job.started
        problem = f"the process ended with {job.process.returncode}:\n{out}\n{err}"
        return Run(*pair, seconds, problem), [], []
    (run,) = plain["runs"]
    return (
        Run(**run),
        [_result(own) for own in plain["results"]],
        [Ratio(*(own[name] for name in Ratio._fields)) for own in plain["ratios"]],
    )


def _result(plain: dict[str, Any]) -> Result:
    twin = plain["twin"] and Measured(**plain["twin"])
    return Result(**{name: plain[name] for name in Result._fields} | {"twin": twin})


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
