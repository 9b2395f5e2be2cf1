"""The backend follows from the arrays; what has none, or two, is refused."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import toy_backend

from kfac_core.errors import BackendError, KfacError
from kfac_core.registry import available_backends, backend_of, load_backend
from kfac_core.testing import check_backend

LIBRARIES = ("numpy", "torch", "jax", "array_api_strict")


def arrays_of(package):
    library = pytest.importorskip(package)
    if package == "jax":
        library = library.numpy
    return library.ones(3)


@pytest.mark.parametrize("package", LIBRARIES)
def test_backend_is_that_of_the_array(package):
    assert backend_of(arrays_of(package)).name == package


def test_one_backend_for_each_library():
    assert (
        backend_of(np.ones(3)) is backend_of(np.zeros((2, 2))) is load_backend("numpy")
    )


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(LIBRARIES, 2)])
def test_two_libraries_are_refused_by_name(first, second):
    with pytest.raises(BackendError, match=f"{first} and {second}"):
        backend_of(arrays_of(first), arrays_of(second))


def test_two_devices_are_refused_by_name():
    strict = pytest.importorskip("array_api_strict")
    one = strict.ones(3, device=strict.Device("device1"))
    two = strict.ones(3, device=strict.Device("device2"))
    assert backend_of(one, one)
    with pytest.raises(BackendError, match=r"device1.*device2"):
        backend_of(one, two)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.ma.ones(3), "MaskedArray"),
        (np.ones(3, dtype=object), "dtype object"),
        (np.array(["a", "b"]), "dtype <U1"),
        (np.ones(3, dtype=[("x", float)]), "dtype"),
        ([1.0, 2.0], "builtins.list"),
        ("weights", "builtins.str"),
        (None, "NoneType"),
        (1.0, "builtins.float"),
        (np.random.default_rng(0), "Generator"),
        (np.float64, "builtins.type"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_no_plain_array_is_refused(value, named):
    with pytest.raises(BackendError, match=named):
        backend_of(value)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrix_is_refused():
    with pytest.raises(BackendError, match="got matrix"):
        backend_of(np.matrix([[1.0]]))


def test_no_arrays_are_refused():
    with pytest.raises(BackendError, match="at least one array"):
        backend_of()


def test_errors_are_type_errors_and_of_this_package():
    with pytest.raises(TypeError) as caught:
        backend_of([1.0])
    assert isinstance(caught.value, KfacError)


def test_importing_the_package_loads_no_framework():
    script = (
        "import sys, kfac_core, kfac_core.registry, kfac_core.testing;"
        "heavy = {'torch', 'jax', 'cupy', 'scipy', 'matplotlib'};"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_third_party_backend_is_found_and_fulfils_the_contract(install):
    install("toy_backend", toy_backend.backend)
    assert "toy_backend" in available_backends()
    assert check_backend(toy_backend.backend).dtypes == ("float32", "float64")


def test_entry_point_that_is_no_backend_is_refused(install):
    install("toy_backend", "not a backend")
    with pytest.raises(BackendError, match=r"toy_backend:backend.*is a str, expected"):
        backend_of(toy_backend.ToyArray(np.ones(3)))


def test_arrays_of_the_standard_need_no_entry_point(install):
    install("another_library", None)
    found = backend_of(toy_backend.ToyArray(np.ones(3)))
    assert type(found).__name__ == "ArrayAPIBackend"


def test_unknown_package_is_refused_by_name():
    with pytest.raises(BackendError, match=r"no backend .*'tinygrad'; there are numpy"):
        load_backend("tinygrad")
