"""Checks of arguments: every message names the layer, what was got, what to do.

Shapes, dtypes and devices are checked always; values only where they exist, that is
not under a trace.
"""

import math
from typing import Any

import numpy as np

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, BackendError, DTypeError, ShapeError
from kfac_core.registry import backend_of
from kfac_core.typing import Array, DType, Scalar


def as_towers(data: Any) -> tuple[Any, ...]:
    """Return a tuple over towers, of one where `data` is an array.

    Example:
        >>> as_towers(1.0), as_towers([1.0, 2.0])
        ((1.0,), (1.0, 2.0))
    """
    return tuple(data) if isinstance(data, tuple | list) else (data,)


def as_sources(data: Any) -> tuple[tuple[Any, ...], ...]:
    """Return a tuple over sources of tuples over towers.

    A tuple of arrays is one source of several towers.

    Example:
        >>> as_sources(1.0), as_sources((1.0, 2.0)), as_sources(((1.0,), (2.0,)))
        (((1.0,),), ((1.0, 2.0),), ((1.0,), (2.0,)))
    """
    if isinstance(data, tuple | list):
        if any(isinstance(source, tuple | list) for source in data):
            return tuple(as_towers(source) for source in data)
        return (tuple(data),)
    return ((data,),)


def statistics_dtype(backend: Backend, x: Array, argument: str, layer: str) -> DType:
    """Return the dtype for statistics of `x`: its own, at least float32.

    Raises:
        DTypeError: If `x` holds no real floating-point numbers.
    """
    xp = backend.xp
    if not xp.isdtype(x.dtype, "real floating"):
        msg = (
            f"{layer}: {argument} has dtype {x.dtype}, expected a real floating-point"
            " dtype; convert it first"
        )
        raise DTypeError(msg)
    return x.dtype if xp.finfo(x.dtype).bits >= 32 else xp.float32


def check_shape(
    x: Array, expected: tuple[int | str, ...], argument: str, layer: str
) -> None:
    """Compare a shape with sizes and names of free axes.

    Args:
        x: The array.
        expected: A size, or the name of an axis of any size, for each axis.
        argument: Its name, for the message.
        layer: Name of the layer or factor, for the message.

    Raises:
        ShapeError: If the rank or a size differs.
    """
    if len(x.shape) != len(expected) or any(
        size != wanted
        for size, wanted in zip(x.shape, expected, strict=True)
        if not isinstance(wanted, str)
    ):
        wanted = ", ".join(str(axis) for axis in expected)
        msg = (
            f"{layer}: {argument} has shape {tuple(x.shape)}, expected [{wanted}];"
            " reshape it, or build the layer with its sizes"
        )
        raise ShapeError(msg)


def as_statistics(
    backend: Backend, x: Array, dtype: DType, argument: str, layer: str
) -> Array:
    """Return `x` as data for a state of `dtype`, half precision promoted.

    Raises:
        DTypeError: If `x` is wider than the state, which would lose its digits.
    """
    if x.dtype == dtype:
        return backend.stop_gradient(x)
    xp = backend.xp
    wanted = statistics_dtype(backend, x, argument, layer)
    if xp.finfo(wanted).bits > xp.finfo(dtype).bits:
        msg = (
            f"{layer}: {argument} has dtype {x.dtype}, but the state holds {dtype};"
            f" cast {argument}, or create the state with init(like={argument})"
        )
        raise DTypeError(msg)
    return xp.astype(backend.stop_gradient(x), dtype)


def as_scalar(
    backend: Backend,
    value: Scalar,
    like: Array,
    argument: str,
    layer: str,
    upper: float = math.inf,
) -> Array:
    """Return a 0-d array beside `like`, of its dtype, in ``[0, upper]``.

    Args:
        backend: Backend of `like`.
        value: A Python number or a 0-d array.
        like: Array that gives dtype and device.
        argument: Name of the value, for the message.
        layer: Name of the layer or factor, for the message.
        upper: The largest value allowed; infinity itself never is.

    Returns:
        The 0-d array.

    Raises:
        ArgumentError: If the value is known, and negative, too large or NaN.
        BackendError: If it is neither a number nor a 0-d array of this library.
    """
    xp = backend.xp
    if _is_number(value):
        _check_range(value, upper, argument, layer)
        device = backend.creation_device(like)
        return xp.full((), value, dtype=like.dtype, device=device)
    array: Any = value
    if not hasattr(array, "shape"):
        msg = (
            f"{layer}: {argument} is a {type(array).__name__}, expected a number or a"
            " 0-d array"
        )
        raise BackendError(msg)
    backend_of(like, array)
    check_shape(array, (), argument, layer)
    if not backend.is_traced(array):
        _check_range(float(array), upper, argument, layer)
    return xp.astype(array, like.dtype)


def _is_number(value: Any) -> bool:
    # NumPy's scalars are numbers beside arrays of any library; its 0-d arrays are not.
    return isinstance(value, float | int | np.generic)


def _check_range(value: Any, upper: float, argument: str, layer: str) -> None:
    if not 0 <= value <= upper or value == math.inf:
        allowed = "at least 0 and finite" if upper == math.inf else f"in [0, {upper}]"
        msg = f"{layer}: {argument} is {value}, expected a number {allowed}"
        raise ArgumentError(msg)
