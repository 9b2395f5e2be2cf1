"""What of the CuPy backend can be run without a GPU: in place of CuPy, NumPy."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import array_api_compat.numpy
import numpy as np
import pytest
from scipy.linalg import blas

import kfac_backends


def syrk(trans, a, out=None, alpha=1.0, beta=0.0, lower=False):
    """Do as `cupy.cublas.syrk`: into one triangle, the other left as it was."""
    assert trans == "T"
    assert out.flags.c_contiguous
    (function,) = blas.get_blas_funcs(("syrk",), (a,))
    computed = function(alpha, a, trans=1, lower=lower)
    triangle = np.tril if lower else np.triu
    np.copyto(out, computed, where=triangle(np.ones_like(out)) > 0)


@pytest.fixture
def backend(monkeypatch):
    cupy, cublas = ModuleType("cupy"), ModuleType("cupy.cublas")
    for name in ("ndarray", "tril"):
        setattr(cupy, name, getattr(np, name))
    # Memory that nothing has written to may hold anything.
    cupy.empty = lambda shape, dtype: np.full(shape, np.nan, dtype)
    cupy.cublas, cublas.syrk = cublas, syrk
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cublas", cublas)
    in_place = array_api_compat.numpy
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", in_place)
    monkeypatch.setattr(array_api_compat, "cupy", in_place, raising=False)
    path = Path(kfac_backends.__path__[0]) / "cupy.py"
    spec = importlib.util.spec_from_file_location("cupy_on_numpy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.backend


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("size", [3, 256])
def test_one_triangle_is_mirrored(backend, rng, dtype, order, size):
    rows = np.asarray(rng.standard_normal((5, size)), dtype=dtype, order=order)
    gram = backend.gram(rows)
    assert gram.dtype == rows.dtype
    np.testing.assert_array_equal(gram, gram.T)
    exact = rows.astype(np.float64).T @ rows.astype(np.float64)
    bound = 5 * np.finfo(dtype).eps * np.abs(rows).max() ** 2
    np.testing.assert_allclose(gram, exact, rtol=0, atol=5 * bound)
