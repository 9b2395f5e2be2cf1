"""NumPy, with LAPACK through SciPy."""

import tracemalloc
from typing import Any

import numpy as np
from scipy.linalg import lapack

from benchmarks.libraries.base import Convolution, Function, Library


def numpy_library() -> Library:
    """Return NumPy; its patches are those of a user, as windows that slide."""
    return Library(
        "numpy",
        ("numpy", "scipy"),
        np.array,
        np.linalg.inv,
        np.linalg.eigh,
        cholesky_inverse,
        one_hot,
        lambda ids, size: np.bincount(ids, minlength=size).astype(np.float32),
        patches,
        "sliding windows",
        peak,
    )


def cholesky_inverse(a: np.ndarray) -> Any:
    """Return the inverse, one triangle of it."""
    double = a.dtype == np.float64
    potrf = lapack.dpotrf if double else lapack.spotrf
    potri = lapack.dpotri if double else lapack.spotri
    return potri(potrf(a.T)[0])[0]  # transposed: in Fortran's order, no more copies


def one_hot(ids: np.ndarray, size: int) -> np.ndarray:
    """Return a row of zeros and a one for each id."""
    rows = np.zeros((len(ids), size), np.float32)
    rows[np.arange(len(ids)), ids] = 1
    return rows


def patches(x: np.ndarray, layer: Convolution) -> np.ndarray:
    """Return windows that slide over padded images, copied to rows."""
    x = np.pad(x, ((0, 0), *layer.padding, (0, 0)))
    pair, step = (layer.kernel,) * 2, layer.stride
    windows = np.lib.stride_tricks.sliding_window_view(x, pair, axis=(1, 2))
    return windows[:, ::step, ::step].reshape(-1, layer.kernel**2 * x.shape[-1])


def peak(function: Function, x: np.ndarray) -> float:
    """Return the peak as Python's allocator saw it."""
    tracemalloc.start()
    result = function(x)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most - result.nbytes
