"""NumPy, with LAPACK through SciPy."""

import tracemalloc

import numpy as np

from benchmarks.libraries.base import Convolution, Function, Library
from benchmarks.libraries.lapack import mirrored_potri, potri


def numpy_library() -> Library:
    """Return NumPy; its patches are those of a user, as windows that slide."""
    return Library(
        "numpy",
        ("numpy", "scipy"),
        np.array,
        np.linalg.inv,
        np.linalg.eigh,
        potri,
        {"Cholesky, potri, mirrored": mirrored_potri},
        one_hot,
        lambda ids, size: np.bincount(ids, minlength=size).astype(np.float32),
        patches,
        "sliding windows",
        peak,
    )


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
    """Return the peak as Python's allocator, and so NumPy's, saw it."""
    function(x)  # what is loaded or kept at the first call is no memory of the work
    tracemalloc.start()
    function(x)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most
