"""The array libraries that every test runs over, and the profiles of hypothesis.

By default the libraries are those that are installed. With the environment variable
KFAC_CORE_LIBRARIES, a list such as ``numpy,strict,torch,jax``, they are those: a
listed one that is missing fails its tests, and no other runs.
"""

import contextlib
import functools
import gc
import importlib
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax_programs
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from kfac_core import backend_of, tree

_COMMON = {
    "deadline": None,  # JAX and torch.compile compile at first use
    "suppress_health_check": [
        HealthCheck.too_slow,
        # The fixture `library` is a setting of the library, the same for all examples.
        HealthCheck.function_scoped_fixture,
    ],
}
settings.register_profile("ci", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("dev", max_examples=25, **_COMMON)
settings.register_profile("nightly", max_examples=1000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

if find_spec("jax") and version("jax").startswith("0.7."):
    # The releases after it have the name itself.
    importlib.import_module("jax").enable_x64 = importlib.import_module(
        "jax.experimental"
    ).enable_x64


@dataclass(frozen=True)
class Library:
    """One array library, on one of its devices, under one of its settings."""

    name: str
    package: str
    asarray: Callable[[np.ndarray], Any]
    half_types: tuple[str, ...] = ()
    compiler: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` of arrays as one program, where the library compiles.

        JAX compiles every operation for every shape, 50 ms each, or a whole verb in
        200 ms. That its verbs do the same without `jit` is a claim of its own, held by
        `test_factor_estimates.py`, `test_factor_layouts.py`, `test_block_libraries.py`,
        `test_loss_truth.py`, `tests/golden` and `tests/misuse`. A test of the
        mathematics takes a state that NumPy made (`moved`), or the program. Equal specs
        share one.
        """
        if self.compiler is None:
            return function
        spec = getattr(function, "__self__", None)
        if spec is None:
            return self.compiler(function)
        return _program(self.compiler, spec, function.__name__)

    def to_numpy(self, x: Any) -> np.ndarray:
        return backend_of(x).to_numpy(x)

    def moved(self, state: Any) -> Any:
        """Return a state of NumPy's arrays as one of this library's.

        For a state that a test starts from: what this library makes of the same data
        is the claim of other tests, and JAX would compile each step of it.
        """
        return tree.map(lambda x: self.asarray(np.asarray(x)), state)

    def assert_same(self, found: Any, expected: Any) -> None:
        """Check two trees of this library's: their types, and every bit of arrays."""
        assert type(found) is type(expected)
        if isinstance(found, tuple):
            for one, other in zip(found, expected, strict=True):
                self.assert_same(one, other)
            return
        assert found.dtype == expected.dtype
        one, other = self.to_numpy(found), self.to_numpy(expected)
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()

    def half(self, x: np.ndarray, dtype: str) -> Any:
        """Return `x`, exact in `dtype`, as an array of that half precision."""
        full = self.asarray(x.astype(np.float32))
        backend = backend_of(full)
        return backend.xp.astype(full, getattr(backend.xp, dtype))


@functools.lru_cache(maxsize=64)
def _program(compiler: Any, spec: Any, verb: str) -> Callable[..., Any]:
    return compiler(getattr(spec, verb))


def read_only(x: np.ndarray) -> np.ndarray:
    copied = np.array(x)
    copied.flags.writeable = False
    return copied


@contextlib.contextmanager
def _numpy(name: str) -> Iterator[Library]:
    asarray = read_only if name == "numpy-readonly" else np.array
    yield Library(name, "numpy", asarray, ("float16",))


@contextlib.contextmanager
def _strict(name: str) -> Iterator[Library]:
    strict = importlib.import_module("array_api_strict")
    flags = {"boolean_indexing": False, "data_dependent_shapes": False}
    device = strict.Device("device1") if name == "strict-device1" else None
    with strict.ArrayAPIStrictFlags(**(flags if name == "strict-flags" else {})):
        yield Library(
            name,
            "array_api_strict",
            lambda x: strict.asarray(np.array(x), device=device),
        )


@contextlib.contextmanager
def _torch(name: str) -> Iterator[Library]:
    torch = importlib.import_module("torch")
    yield Library(
        name,
        "torch",
        lambda x: torch.from_numpy(np.array(x, order="C")),
        ("float16", "bfloat16"),
    )


@contextlib.contextmanager
def _jax(name: str) -> Iterator[Library]:
    jax = importlib.import_module("jax")
    with jax.enable_x64(True):

        def asarray(x: np.ndarray) -> Any:
            # `jax.numpy.array` would compile a copy for every new shape.
            return jax.device_put(np.array(x))

        yield Library(name, "jax", asarray, ("float16", "bfloat16"), jax.jit)


_MODULES = {
    "numpy": "numpy",
    "strict": "array_api_strict",
    "torch": "torch",
    "jax": "jax",
}
_FAMILIES = {
    "numpy": {"numpy": _numpy, "numpy-readonly": _numpy},
    "strict": {
        "strict": _strict,
        "strict-flags": _strict,
        "strict-device1": _strict,
    },
    "torch": {"torch": _torch},
    "jax": {"jax": _jax},
}


def _listed() -> list[str]:
    listed = os.environ.get("KFAC_CORE_LIBRARIES")
    if listed is None:
        return [family for family in _FAMILIES if find_spec(_MODULES[family])]
    return [family.strip() for family in listed.split(",")]


LIBRARIES = {
    name: context for family in _listed() for name, context in _FAMILIES[family].items()
}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    with LIBRARIES[request.param](request.param) as made:
        yield made


PLAIN = [name for name in LIBRARIES if name in _FAMILIES]


@pytest.fixture(params=PLAIN)
def plain_library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Each library once, for what cannot depend on its settings and devices."""
    with LIBRARIES[request.param](request.param) as made:
        yield made


@pytest.fixture(params=[name for name in PLAIN if name != "jax"])
def eager_library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Each library that computes at once, whose verbs can be prepared: not JAX."""
    with LIBRARIES[request.param](request.param) as made:
        yield made


def _installed(family: str) -> Any:
    """Import a library for the tests that are about it alone."""
    if family not in _listed():
        pytest.skip(f"{family} is not among the libraries")
    return importlib.import_module(_MODULES[family])


@pytest.fixture
def needed() -> Callable[[str], Any]:
    """Return what imports a library by its name, for a test that learns it late."""
    return _installed


@pytest.fixture
def claims_on_devices(needed: Callable[[str], Any]) -> Callable[[Path], int]:
    """Return what runs a program with eight devices of JAX, and counts its claims."""
    needed("jax")

    def run(program: Path) -> int:
        devices = "--xla_force_host_platform_device_count=8"
        flags = f"{os.environ.get('XLA_FLAGS', '')} {devices}"
        found = subprocess.run(
            [sys.executable, program],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        assert "does not hold" not in found.stdout, found.stdout + found.stderr
        return found.stdout.count("holds: ")

    return run


@pytest.fixture(autouse=True)
def _forgetful_jax() -> Iterator[None]:
    """Drop what JAX compiled whenever that has become much: its memory is used again.

    The programs of one file reach gigabytes, those of another serve the next file.
    """
    if "jax" in sys.modules:
        jax_programs.contexts()
        jax_programs.writes_at_once()
    yield
    if "jax" in sys.modules and len(jax_programs.compiled()) > jax_programs.PROGRAMS:
        sys.modules["jax"].clear_caches()
        jax_programs.contexts().cache_clear()
        gc.collect()
        jax_programs.compiled().clear()


@pytest.fixture
def jax() -> Iterator[Any]:
    """JAX with float64 enabled for this test alone."""
    library = _installed("jax")
    with library.enable_x64(True):
        yield library


@pytest.fixture
def torch() -> Any:
    library = _installed("torch")
    with warnings.catch_warnings():
        # The compiler is loaded at first use, and warns of PyTorch's own past.
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._dynamo")
    return library


@pytest.fixture
def set_threads(torch: Any) -> Iterator[Callable[[int], None]]:
    """What sets PyTorch's number of threads for this test alone."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the walks of `tests/misuse` tried, and how it ended."""
    tried: Counter[tuple[str, str]] = Counter()
    verbs = set()
    for report in terminalreporter.getreports("passed"):
        for name, rows in report.user_properties:
            if name == "walked" and report.when == "call":
                for verb, _, fault, outcome, number in rows:
                    tried[fault, outcome] += number
                    verbs.add(verb)
    if not tried:
        return
    outcomes = sorted({outcome for _, outcome in tried})
    terminalreporter.section(
        f"{tried.total()} bad calls of {len(verbs)} public callables"
    )
    width = max(len(fault) for fault, _ in tried)
    terminalreporter.line(" " * width + "".join(f"  {name}" for name in outcomes))
    for fault in sorted({fault for fault, _ in tried}):
        counts = "".join(f"  {tried[fault, o]:>{len(o)}}" for o in outcomes)
        terminalreporter.line(f"{fault:<{width}}{counts}")
