"""A product of arrays of any library as a linear operator of SciPy."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kfac_core.registry import backend_of
from kfac_core.typing import Array


def scipy_operator(
    like: Sequence[Array],
    dtype_of: Array,
    multiply: Callable[[tuple[Array, ...]], tuple[Array, ...]],
) -> Any:
    """Return a symmetric operator on vectors of NumPy.

    Args:
        like: Arrays with the shapes and devices of the parts of a vector, which lie
            one after another, each row-major.
        dtype_of: An array of the operator's dtype.
        multiply: Takes and returns such arrays.

    Returns:
        A `scipy.sparse.linalg.LinearOperator`.

    Example:
        >>> parts = np.zeros((1, 2)), np.zeros(1)
        >>> twice = scipy_operator(parts, parts[0], lambda x: tuple(2 * p for p in x))
        >>> twice @ np.asarray([1.0, 2.0, 3.0])
        array([2., 4., 6.])
    """
    from scipy.sparse.linalg import LinearOperator  # takes a fifth of a second

    backend = backend_of(dtype_of)
    dtype = backend.to_numpy(backend.stop_gradient(backend.xp.sum(dtype_of))).dtype
    shapes = [tuple(x.shape) for x in like]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    devices = [backend.creation_device(x) for x in like]

    def matvec(x: Any) -> Any:
        if np.iscomplexobj(x):
            return matvec(x.real) + 1j * matvec(x.imag)
        pieces = np.split(np.asarray(x, dtype).reshape(-1), ends[:-1])
        arrays = tuple(
            backend.from_numpy(piece.reshape(shape), device)
            for piece, shape, device in zip(pieces, shapes, devices, strict=True)
        )
        products = (backend.stop_gradient(x) for x in multiply(arrays))
        return np.concatenate([backend.to_numpy(x).reshape(-1) for x in products])

    size = int(ends[-1])
    return LinearOperator((size, size), matvec=matvec, rmatvec=matvec, dtype=dtype)
