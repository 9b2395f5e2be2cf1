import contextlib
import warnings

import numpy as np
import pytest

import kfac_core.registry
from kfac_core.registry import backend_of, load_backend
from kfac_core.testing import Candidate


def import_torch():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        # The compiler is loaded at first use, and warns of PyTorch's own past.
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch._dynamo
        import torch._inductor.compile_fx
    return torch


@pytest.fixture(scope="session")
def torch():
    return import_torch()


@pytest.fixture
def jax():
    """JAX with float64 enabled for this test alone."""
    library = pytest.importorskip("jax")
    with library.enable_x64(True):
        yield library


@contextlib.contextmanager
def numpy_candidate():
    yield Candidate(load_backend("numpy"))


@contextlib.contextmanager
def strict_candidate(device=None, **flags):
    strict = pytest.importorskip("array_api_strict")
    with strict.ArrayAPIStrictFlags(**flags):
        place = strict.Device(device) if device else None
        yield Candidate(backend_of(strict.ones(1)), place)


@contextlib.contextmanager
def torch_candidate():
    torch = import_torch()
    # What torch.compile computes is the matter of test_traced.py: this is faster.
    with torch.compiler.set_stance("force_eager"):
        yield Candidate(
            load_backend("torch"),
            make_key=lambda seed: torch.Generator().manual_seed(seed),
        )


@contextlib.contextmanager
def jax_candidate(x64):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(x64):
        yield Candidate(load_backend("jax"), make_key=jax.random.key)


@contextlib.contextmanager
def optional_candidate(name):
    """A backend for a library that no test environment but its own has."""
    pytest.importorskip(name)
    yield Candidate(load_backend(name))


CANDIDATES = {
    "numpy": numpy_candidate,
    "strict": strict_candidate,
    "strict-device1": lambda: strict_candidate("device1"),
    "strict-flags": lambda: strict_candidate(
        boolean_indexing=False, data_dependent_shapes=False
    ),
    "torch": torch_candidate,
    "jax": lambda: jax_candidate(True),
    "jax-without-x64": lambda: jax_candidate(False),
    "mparray": lambda: optional_candidate("mparray"),
    "mlx": lambda: optional_candidate("mlx"),
}


@pytest.fixture(params=CANDIDATES)
def candidate(request):
    with CANDIDATES[request.param]() as made:
        yield made


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class FakeEntryPoint:
    def __init__(self, name, target):
        self.name, self.target, self.value = name, target, f"{name}:backend"

    def load(self):
        return self.target


@pytest.fixture
def install(monkeypatch):
    """Return a function that installs an entry point for one test."""
    monkeypatch.setattr(kfac_core.registry, "BACKEND_OF_TYPE", {})

    def installed(name, target):
        entries = (FakeEntryPoint(name, target),)
        monkeypatch.setattr(kfac_core.registry, "entry_points", lambda group: entries)

    return installed
