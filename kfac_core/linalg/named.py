"""Vectors that are dictionaries of arrays: parameters, gradients and steps by name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from kfac_core.arguments.arrays import backend_for, check_shape, statistics_dtype
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, BackendError, NotFiniteError
from kfac_core.state import all_finite, is_known_false
from kfac_core.typing import Array, Scalar

Named: TypeAlias = Mapping[str, Array]
"""A vector: a mapping from names to its parts."""


def check_named(
    vector: object, shapes: Mapping[str, tuple[int, ...]], argument: str, label: str
) -> Backend:
    """Check that a vector has real arrays of given names and shapes, of one library.

    The arrays may lie on several devices.

    Args:
        vector: What the user gave.
        shapes: The shape of each part, by its name; at least one.
        argument: What the vector is, for messages.
        label: Who takes it, for messages.

    Returns:
        The backend.

    Raises:
        ArgumentError: If `vector` is not a mapping, or a name is missing or unknown.
        BackendError: If a part is not an array, or of another library than the first.
        DTypeError: If a part does not hold real floating-point numbers.
        ShapeError: If a part has another shape.
    """
    parts = with_names(vector, [*shapes], argument, label)
    backend: Backend | None = None
    for name, shape in shapes.items():
        found = backend_for(name, argument, parts[name])
        backend = backend or found
        if found is not backend:
            msg = (
                f"{name}: {argument} is an array of {found.name}, but its other parts"
                f" are of {backend.name}; convert them first, nothing is converted"
                " silently"
            )
            raise BackendError(msg)
        check_shape(parts[name], shape, argument, name)
        statistics_dtype(found, parts[name], argument, name)
    if backend is None:
        msg = f"{label}: {argument} is empty, expected an array by name"
        raise ArgumentError(msg)
    return backend


def check_all_finite(
    backend: Backend, vector: Named, argument: str, label: str
) -> None:
    """Check that all parts of a vector are finite, where they have values.

    Args:
        backend: Backend of the parts.
        vector: Arrays by name, at least one.
        argument: What the vector is, for the message.
        label: Who takes it, for the message.

    Raises:
        NotFiniteError: If a part holds NaN or infinity; the message names all that do.
    """
    by_device: dict[Any, dict[str, Array]] = {}
    for name, x in vector.items():
        by_device.setdefault(backend.device(x), {})[name] = x
    # All parts are tested at once: on an accelerator, every answer takes a wait.
    fine = [all_finite(backend, x, next(iter(x.values()))) for x in by_device.values()]
    if any(is_known_false(backend, each) for each in fine):
        bad = [n for n, x in vector.items() if not bool(backend.is_finite(x))]
        msg = (
            f"{label}: {argument} of {', '.join(bad)} holds NaN or infinity, expected"
            " finite numbers"
        )
        raise NotFiniteError(msg)


def as_named(vector: object, argument: str, label: str) -> Mapping[str, Any]:
    """Return a mapping as it is given.

    Raises:
        ArgumentError: If `vector` is not a mapping.
    """
    if not isinstance(vector, Mapping):
        msg = (
            f"{label}: {argument} is a {type(vector).__name__}, expected a mapping from"
            " names to arrays"
        )
        raise ArgumentError(msg)
    return vector


def with_names(
    vector: object, names: Sequence[str], argument: str, label: str
) -> Mapping[str, Any]:
    """Return a mapping that has these names and no others.

    Raises:
        ArgumentError: If `vector` is not a mapping, or a name is missing or unknown.
    """
    parts = as_named(vector, argument, label)
    if parts.keys() != set(names):
        msg = f"{label}: {argument} has the names {list(parts)}, expected {list(names)}"
        raise ArgumentError(msg)
    return parts


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
    """Return a vector, each part in the dtype of the same part of `like`."""
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
        if backend.finfo(dtype).bits < 32:
            dtype = xp.float32
        row = xp.astype(xp.reshape(a, (1, -1)), dtype, copy=False)
        column = xp.astype(xp.reshape(b, (-1, 1)), dtype, copy=False)
        return backend.matmul(row, column)[0, 0]

    call = backend.call
    products = map_named(dot if call is None else partial(call, dot), x, y)
    first, *others = products.values()
    for product in others:
        first = first + product
    return first
