"""Blocks of every family, and whole models, take a step on every backend's arrays."""

import re
from pathlib import Path
from types import ModuleType

import pytest
import toy_backend

import kfac_backends
import kfac_core
from kfac_backends import probe
from kfac_core.registry import backend_of
from kfac_core.testing import Candidate, check_backend
from kfac_core.testing.contract import STEPS

WITH_FLOAT64 = (
    *("numpy", "strict", "strict-device1", "strict-flags", "torch", "jax"),
    *("mparray", "mlx"),
)
NAMES = [check.__name__ for check in STEPS]


@pytest.mark.parametrize("candidate", WITH_FLOAT64, indirect=True)
@pytest.mark.parametrize("check", STEPS, ids=NAMES)
def test_a_step_is_that_of_numpy(candidate, check):
    check(candidate)


def test_a_library_without_not_fails_at_each_step_by_name(install, monkeypatch):
    monkeypatch.delattr(toy_backend.ToyArray, "__invert__")
    install("toy_backend", toy_backend.backend)
    with pytest.raises(AssertionError) as caught:
        check_backend(toy_backend.backend)
    failed = re.findall(r"^- (\w+): .*unary ~", str(caught.value), re.MULTILINE)
    assert set(NAMES) <= set(failed)


def test_a_step_that_is_off_by_more_than_rounding_is_noticed(install, monkeypatch):
    install("toy_backend", toy_backend.backend)
    matmul = toy_backend.ToyBackend.matmul
    off = lambda self, a, b: matmul(self, a, b) * 1.001  # noqa: E731
    monkeypatch.setattr(toy_backend.ToyBackend, "matmul", off)
    with pytest.raises(AssertionError, match=r"off by \d.* of NumPy's step"):
        STEPS[0](Candidate(toy_backend.backend))


def recorded(monkeypatch, owner, names):
    """Let what is called or read of `owner` be told in the set that is returned."""
    used = set()

    def record(name):
        found = vars(owner)[name]

        def told(*args, **kwargs):
            used.add(name)
            function = found.fget if isinstance(found, property) else found
            return function(*args, **kwargs)

        wrapped = property(told) if isinstance(found, property) else told
        monkeypatch.setattr(owner, name, wrapped)

    for name in names:
        record(name)
    return used


@pytest.fixture
def used(monkeypatch):
    """What all steps use of the standard, as array-api-strict has it."""
    strict = pytest.importorskip("array_api_strict")
    candidate = Candidate(backend_of(strict.ones(1)))
    array = type(strict.ones(1))
    functions = [
        name
        for name, value in vars(strict).items()
        if callable(value)
        and not isinstance(value, type | ModuleType)
        and name != "__getattr__"
    ]
    members = [
        name
        for name, value in vars(array).items()
        if isinstance(value, property)
        or (name.startswith("__") and callable(value) and name not in STRICTS_OWN)
    ]
    found = {
        "functions": recorded(monkeypatch, strict, functions),
        "linalg": recorded(monkeypatch, strict.linalg, strict.linalg.__all__),
        "members": recorded(monkeypatch, array, members),
    }
    for check in STEPS:
        check(candidate)
    return found


STRICTS_OWN = {"__new__", "__array_namespace__"}
NOT_OURS = {"get_array_api_strict_flags", "__dlpack__", "__dlpack_device__"}
"""What array-api-strict calls of itself, and what reads its arrays."""


def test_the_list_of_what_steps_use_is_complete(used):
    assert used["functions"] - NOT_OURS <= {*probe.FUNCTIONS}
    assert used["linalg"] <= {*probe.LINALG}
    assert used["members"] - NOT_OURS <= {*probe.ATTRIBUTES, *probe.OPERATORS}


def written(folder, pattern):
    """Return the names that follow a namespace in the sources of a package."""
    sources = [path.read_text("utf-8") for path in folder.rglob("*.py")]
    return {*re.findall(pattern, "\n".join(sources))}


CORE, BACKENDS = (Path(own.__file__).parent for own in (kfac_core, kfac_backends))
NO_FUNCTION = {"bool", "float32", "float64", "int8", "int32", "int64", "__name__"}
FOR_READERS = {"log10"}
"""What `kfac_core.reference.digits` alone calls, with arrays of NumPy and mparray."""


def test_functions_that_no_step_uses_are_listed_too():
    """Other blocks, losses and options use them."""
    functions = written(CORE, r"\bxp\.(\w+)") - {"linalg", *NO_FUNCTION, *FOR_READERS}
    assert functions <= {*probe.FUNCTIONS}
    assert written(CORE, r"\bxp\.linalg\.(\w+)") <= {*probe.LINALG}


def test_nothing_is_listed_that_no_one_uses(used):
    functions = written(CORE, r"\bxp\.(\w+)") | written(BACKENDS, r"\bxp\.(\w+)")
    assert {*probe.FUNCTIONS} <= used["functions"] | functions
    of_linalg = written(BACKENDS, r"\bxp\.linalg\.(\w+)")
    assert {*probe.LINALG} <= used["linalg"] | of_linalg | written(
        CORE, r"\bxp\.linalg\.(\w+)"
    )
    assert {*probe.ATTRIBUTES} <= used["members"]
