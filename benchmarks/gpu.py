"""``python -m benchmarks.gpu``: checks and measures a GPU, in less than six minutes.

For each of PyTorch, JAX and CuPy, in a process of its own: first the theorems of
``kfac-core verify``, in float32 on the device; then how often PyTorch's eager verbs
wait for it; then statistics, inverses, stacks, convolutions, and the layers of
GPT-2 small. A library that is missing, or has no such device, is skipped by name, and
so is what the time does not suffice for. ``--device cpu --small`` tries the script.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import kfac_core as kc
from benchmarks.cases import Case, Rivals, UnavailableError, normal
from benchmarks.libraries import Library, settle
from benchmarks.libraries.devices import NAMES, on_device
from benchmarks.machine import description
from benchmarks.measuring import QUICK, Pace
from benchmarks.recording import row_of
from benchmarks.report import terminal
from benchmarks.work import convolution, gram, inverses, networks
from kfac_core.theorems import THEOREMS
from kfac_core.verify import verify

SECONDS = 330.0
"""Number of seconds for all libraries together."""

SHARE_OF_CHECKS = 0.4
"""Largest share of a library's time in which theorems are tried."""

FEW = 3
"""Number of theorems that are tried in small."""


def cases(library: Library, *, small: bool) -> Iterator[Case]:
    """Return what is measured, the most important first.

    Args:
        library: The library, on its device.
        small: Whether sizes are to be small.

    Yields:
        The cases.
    """
    own = {"quick": small}
    layers = convolution.cases(library, **own)
    yield from itertools.islice(gram.cases(library, **own), 1)
    yield from itertools.islice(layers, 1)
    yield from inverses.cases(library, **own)
    tokens, scale = (16, 32) if small else (4096, 1)
    yield from networks.transformer_cases(library, tokens, scale)
    size = 64 if small else 2048
    yield Case("Inverses", f"Newton-Schulz, {size}", partial(_newton, library, size))
    yield from itertools.islice(layers, 1 if small else 3)


def _newton(library: Library, size: int) -> Rivals:
    """Return the refresh of an inverse by one step, and by a factorisation."""
    x = library.array(normal(4 * size, size))
    make = partial(kc.factors.FullyConnectedKroneckerFactor, size, matpowers=(-1,))
    calls = []
    for steps in (1, 0):
        factor = make(newton_steps=steps)
        state = library.once(factor.update_cov, factor.init(like=x), x, 0.95)
        state = library.once(lambda s, f=factor: f.update_inverses(s, 1.0), state)
        state = library.once(factor.update_cov, state, x * 1.0001, 0.95)
        calls.append(library.call(lambda s, f=factor: f.update_inverses(s, 1.0), state))
    return Rivals(calls[0], {}, {"ours, Cholesky": calls[1]})


def waits(library: Library) -> dict[str, int] | None:
    """Return how often the verbs of an eager layer wait for the device.

    Args:
        library: The library.

    Returns:
        A number for each verb; None where nobody counts.
    """
    if library.name != "torch":
        return None
    import torch

    x, v = library.array(normal(32, 16)), library.array(normal(16, 16))
    if not x.is_cuda:
        return None
    block = kc.blocks.FullyConnectedKFACBasicFB(16, 16)
    state = block.update_covs(block.init(like=x), x, x, 0.95)
    state = block.update_inverses(state, 0.1)
    verbs = {
        "update_covs": partial(block.update_covs, state, x, x, 0.95),
        "update_inverses": partial(block.update_inverses, state, 0.1),
        "multiply_inverse": partial(block.multiply_inverse, state, v),
    }
    found = {}
    for name, verb in verbs.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            verb()
            torch.cuda.set_sync_debug_mode("default")
        found[name] = sum("synchroniz" in str(each.message) for each in told)
    return found


def checked(name: str, device: str, end: float, *, small: bool) -> dict[str, Any]:
    """Return which theorems hold on a device, as far as the time suffices.

    Args:
        name: The library.
        device: The device.
        end: When to stop, by the performance counter.
        small: Whether a few theorems are enough.
    """
    tried, wrong = 0, []
    chosen = THEOREMS[:FEW] if small else THEOREMS
    for theorem in chosen:
        if time.perf_counter() > end:
            break
        where = None if name == "cupy" else device
        report = verify([name], dtypes=["float32"], device=where, theorems=[theorem])
        tried += 1
        wrong += [] if report.ok else [theorem.name]
    return {"tried": tried, "of": len(chosen), "wrong": wrong}


def measured(name: str, device: str, seconds: float, *, small: bool) -> dict[str, Any]:
    """Check and measure one library in this process, and print what is found.

    Args:
        name: The library.
        device: The device.
        seconds: How long it may take.
        small: Whether sizes are to be small.

    Returns:
        What was found, or why the library was skipped.
    """
    began = time.perf_counter()
    end = began + seconds
    try:
        library, card = on_device(name, device)
    except UnavailableError as error:
        print(f"{name}: skipped, {error}", flush=True)
        return {"library": name, "skipped": str(error)}
    settle(name)
    print(f"{name} on {card}", flush=True)
    checks = checked(name, device, began + SHARE_OF_CHECKS * seconds, small=small)
    print(f"  theorems: {checks['tried']} of {checks['of']} tried,", end=" ")
    print(f"wrong: {checks['wrong'] or 'none'}", flush=True)
    found: dict[str, Any] = {"library": name, "card": card, "theorems": checks}
    found["waits"] = waits(library)
    if found["waits"]:
        print(f"  waits for the device: {found['waits']}", flush=True)
    pace = QUICK if small else Pace(0.02, 3, 0.2)
    found["rows"], found["left_out"] = [], []
    for case in cases(library, small=small):
        why = "" if time.perf_counter() < end else "the time is up"
        if not why:
            try:
                row = row_of(_without_floors(case), time.perf_counter, pace)
            except Exception as error:  # one case more or less: the others still count
                why = f"{type(error).__name__}: {error}"
        if why:
            found["left_out"].append({"name": case.name, "why": why})
            print(f"  {case.name}: left out, {why}", flush=True)
            continue
        found["rows"].append(row)
        print(terminal.line(row), flush=True)
    found["machine"] = description(["kfac_core", *library.packages])
    return found


def _without_floors(case: Case) -> Case:
    """Return a case without what the processor computes: LAPACK through SciPy."""
    make = case.rivals
    return case._replace(rivals=lambda: make()._replace(floors={}))


def main() -> None:
    """Check and measure what the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, seconds")
    parser.add_argument("--library", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    options = parser.parse_args()
    small, began = options.small, time.perf_counter()
    if len(options.library) == 1:
        (name,) = options.library
        results = [measured(name, options.device, options.seconds, small=small)]
    else:
        results = []
        for place, name in enumerate(options.library):
            rest = options.seconds - (time.perf_counter() - began)
            share = rest / (len(options.library) - place)
            results += _in_a_process(name, options.device, share, small=small)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    wrong = [own for own in results if own.get("theorems", {}).get("wrong")]
    raise SystemExit(bool(wrong) or any("failed" in own for own in results))


def _in_a_process(name: str, device: str, seconds: float, *, small: bool) -> list[Any]:
    """Return what a process of its own finds, which may fail or take too long."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.gpu", "--library", name]
        command += ["--device", device, "--seconds", str(seconds), "--json", str(file)]
        command += ["--small"] if small else []
        # JAX would take most of the memory at once, which the others need, too.
        own = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        try:
            subprocess.run(command, check=False, env=own, timeout=seconds + 10)
        except subprocess.TimeoutExpired:
            print(f"{name}: failed, it takes longer than {seconds:.0f} s", flush=True)
        if file.exists():
            found: list[Any] = json.loads(file.read_text("utf-8"))
            return found
        return [{"library": name, "failed": True}]


if __name__ == "__main__":
    main()
