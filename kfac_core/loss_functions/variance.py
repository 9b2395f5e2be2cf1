"""The variance of normal noise: one number for all outputs, or one for each.

A spec is hashable and holds no arrays. So an array is kept as nested tuples of numbers,
from which an array of the data's library and dtype is made.
"""

import math
from typing import Any, TypeAlias

import numpy as np

from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, KfacError, ShapeError
from kfac_core.typing import Array

Variance: TypeAlias = float | tuple[Any, ...]
"""A number, or nested tuples of numbers: hashable."""


def as_variance(var: Any, loss: str) -> Variance:
    """Return a variance as a number, or as nested tuples of numbers.

    Args:
        var: A number, nested lists or tuples of numbers, or an array of any library.
        loss: Name of the loss, for messages.

    Returns:
        The variance; a 0-d array becomes a number.

    Raises:
        ArgumentError: If an entry is not positive and finite, if there is no entry, or
            if `var` does not hold numbers, or has no values within a trace.

    Example:
        >>> as_variance(2, "loss"), as_variance([[0.5], [1]], "loss")
        (2.0, ((0.5,), (1.0,)))
    """
    expected = (
        f"{loss}: var is {var!r}, expected a positive number, or an array of positive"
        " numbers, one for each output"
    )
    try:
        values = _in_numpy(var, loss)
    except (KfacError, TypeError, ValueError) as error:
        raise ArgumentError(expected) from error
    if values.dtype.kind not in "iuf" or values.size == 0:
        raise ArgumentError(expected)
    numbers = values.astype(np.float64)
    if not np.all((numbers > 0) & (numbers < math.inf)):
        raise ArgumentError(expected)
    return _nested(numbers.tolist())  # type: ignore[no-any-return]


def variance_beside(
    backend: Backend, var: Variance, inputs: Array, loss: str
) -> float | Array:
    """Return a variance to compute with: a number, or an array of the inputs' dtype.

    Args:
        backend: Backend of the inputs.
        var: As `as_variance` returns it.
        inputs: ``[batch, ..., n]``; vectors may have further leading axes.
        loss: Name of the loss, for messages.

    Returns:
        The variance; an array broadcasts to the inputs.

    Raises:
        ArgumentError: If the dtype cannot hold an entry as a normal number.
        ShapeError: If the variance does not broadcast to the inputs.
    """
    entries = _entries(var)
    info = backend.xp.finfo(inputs.dtype)
    least, most = float(info.smallest_normal), float(info.max)
    if min(entries) < least or max(entries) > most:
        msg = (
            f"{loss}: var has entries from {min(entries):g} to {max(entries):g}, and"
            f" {inputs.dtype} holds numbers from {least:g} to {most:g}; scale the"
            " outputs, or compute in a wider dtype"
        )
        raise ArgumentError(msg)
    if not isinstance(var, tuple):
        return var
    shape, wanted = _shape(var), tuple(inputs.shape)
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    if len(shape) > len(wanted) or any(a not in {1, b} for a, b in pairs):
        msg = (
            f"{loss}: var has shape {shape}, expected one that broadcasts to that of"
            f" the mean, {wanted}: a variance for each output"
        )
        raise ShapeError(msg)
    device = backend.creation_device(inputs)
    flat = backend.xp.asarray(entries, dtype=inputs.dtype, device=device)
    return backend.xp.reshape(flat, shape)


def _in_numpy(var: Any, loss: str) -> np.ndarray[Any, Any]:
    if isinstance(var, bool | str | bytes):
        raise TypeError
    if isinstance(var, int | float | tuple | list | np.generic):
        return np.asarray(var)
    backend = backend_for(loss, "var", var)
    if backend.is_traced(var):
        raise TypeError
    values: np.ndarray[Any, Any] = backend.to_numpy(var)
    return values


def _nested(values: Any) -> Any:
    """Turn nested lists into nested tuples."""
    return tuple(map(_nested, values)) if isinstance(values, list) else values


def _shape(var: Any) -> tuple[int, ...]:
    return (len(var), *_shape(var[0])) if isinstance(var, tuple) else ()


def _entries(var: Any) -> list[float]:
    """Return the numbers of nested tuples, row-major."""
    if not isinstance(var, tuple):
        return [var]
    return [entry for part in var for entry in _entries(part)]
