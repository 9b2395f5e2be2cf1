"""Vectors that are dictionaries of arrays: parameters, gradients and steps by name."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from kfac_core.backend import Backend
from kfac_core.typing import Array, Scalar

Named: TypeAlias = Mapping[str, Array]
"""A vector: for each name its part."""


def map_named(function: Callable[..., Array], *vectors: Named) -> dict[str, Array]:
    """Return ``{name: function(parts of this name)}``, in the order of the first.

    Example:
        >>> map_named(lambda x, y: x - 2 * y, {"w": 5, "b": 1}, {"b": 3, "w": 2})
        {'w': 1, 'b': -5}
    """
    first, *others = vectors
    return {
        name: function(part, *(other[name] for other in others))
        for name, part in first.items()
    }


def scaled(factor: Scalar, vector: Named) -> dict[str, Array]:
    """Return ``factor * vector``."""
    return map_named(lambda part: part * factor, vector)


def cast_like(backend: Backend, vector: Named, like: Named) -> dict[str, Array]:
    """Return a vector, each part in the dtype of that of `like`."""
    xp = backend.xp
    return map_named(lambda x, y: xp.astype(x, y.dtype, copy=False), vector, like)


def inner(backend: Backend, x: Named, y: Named) -> Array:
    """Return the inner product of two vectors, 0-d, their dtypes promoted.

    Half precision is summed in float32.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x = {"w": np.ones((2, 2)), "b": np.asarray([3.0])}
        >>> float(inner(backend_of(x["w"]), x, x))
        13.0
    """
    xp = backend.xp

    def dot(a: Array, b: Array) -> Array:
        dtype = xp.result_type(a, b)
        if xp.finfo(dtype).bits < 32:
            dtype = xp.float32
        a, b = (
            xp.astype(xp.reshape(part, (-1,)), dtype, copy=False) for part in (a, b)
        )
        return a @ b

    products = map_named(dot, x, y)
    first, *others = products.values()
    for product in others:
        first = first + product
    return first
