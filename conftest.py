"""Hooks for the whole test suite: the recorded cases of ``tf.contrib.kfac``."""

import contextlib
import gc
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

# Parallel workers with a thread for each core each would wait for each other. A worker
# inherits this before it loads anything.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

GOLDEN = Path(__file__).parent / "tests" / "golden"


# XLA is told to compile small programs fast, in half of the time: most of what JAX's
# tests take is to compile what runs once. What a sum loses may depend on it:
# `nox -s processors` runs the numerical tests with all that XLA does of itself. A
# release that has no such flag would end the process: only the one that the constraints
# name is told.
FAST_XLA = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
)
CONSTRAINTS = (Path(__file__).parent / "constraints.txt").read_text().split()
IS_OUR_JAX = False
with contextlib.suppress(PackageNotFoundError):
    IS_OUR_JAX = f"jax=={version('jax')}" in CONSTRAINTS
    if f"jaxlib=={version('jaxlib')}" in CONSTRAINTS:
        os.environ.setdefault("XLA_FLAGS", " ".join(FAST_XLA))


def pytest_configure(config: pytest.Config) -> None:
    """Keep on disk what JAX compiles: a fifth of its tests' time is to do it again.

    Workers share a folder where `tests/conftest.py` makes JAX write an entry at once;
    with another release each has its own, and not that which it inherits.
    """
    cache = getattr(config, "cache", None)
    if cache is not None:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        folder = cache.mkdir("jax" if IS_OUR_JAX else f"jax-{worker}")
        given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if given is None or Path(given).parent == folder.parent:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Any:
    """Collect without looking for garbage: none is made, and all of it is kept."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        # Python would look for it at every 700 objects, a tenth of JAX's tests' time.
        gc.set_threshold(10_000, 20)
        gc.enable()


APART = (
    *("tests/adapters/test_torch_ranks.py", "tests/docs/test_ranks_example.py"),
    *("tests/docs/test_jax_example.py", "tests/tracing/test_tracing_compile.py"),
)
"""Files whose tests take long and share nothing: each may go to another worker, after
all files, which come by their numbers of tests, so that workers end together."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file to one worker, unless told otherwise: it compiles for it once."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return nodeid if file in APART else file

    return Scheduling(config, log)


def _case_on_jax(item: pytest.Item) -> str:
    """Return the name of the case that a test computes with JAX; else nothing."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    names = [value for value in params.values() if isinstance(value, str)]
    if "jax" not in (*names, *getattr(item, "fixturenames", ())):
        return ""
    return next((name for name in names if name != "jax"), "")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Let a file's tests of one case on JAX follow each other, after all others.

    The programs of all cases are more than are kept: by the next test of a case, those
    of the last would be gone. The recorded cases alone are left where a folder of these
    is given.
    """
    files: dict[Path, int] = {}
    cases = {"": 0}
    for item in items:
        files.setdefault(item.path, len(files))
        cases.setdefault(_case_on_jax(item), len(cases))
    items.sort(key=lambda item: (files[item.path], cases[_case_on_jax(item)]))
    if config.getoption("--golden", default=None):
        golden = [item for item in items if item.path.parent == GOLDEN]
        config.hook.pytest_deselected(items=[i for i in items if i not in golden])
        items[:] = golden


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many recorded cases ran, and how well.

    Here and not beside the cases, since the controller of parallel runs does not
    collect.
    """
    sys.path.insert(0, str(GOLDEN))
    from recordings import summary

    passed = terminalreporter.stats.get("passed", [])
    if lines := summary(passed):
        terminalreporter.section("recorded cases of tf.contrib.kfac")
        for line in lines:
            terminalreporter.write_line(line)
