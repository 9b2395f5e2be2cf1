"""Checks of weights, decays and dampings, which are numbers or 0-d arrays."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kfac_core.arguments.arrays import backend_for, check_shape
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, BackendError, DTypeError
from kfac_core.recorded import RecordedNumber
from kfac_core.typing import Array, DampingId, Dampings, Scalar

_NUMBERS = (float, int, np.floating, np.integer)

_PLAIN_NUMBERS = {float, int, np.float32, np.float64}

HELD = 65504.0
"""A number that every dtype holds: the largest of half precision."""


def as_scalar(
    backend: Backend,
    value: Scalar,
    like: Array,
    argument: str,
    layer: str,
    upper: float = math.inf,
) -> Array:
    """Return a 0-d array in ``[0, upper]``, with the dtype and device of `like`.

    Args:
        backend: Backend of `like`.
        value: A Python number or a 0-d array.
        like: Array that gives dtype and device.
        argument: Name of the value, for the message.
        layer: Name of the layer or factor, for the message.
        upper: The largest value allowed; a number that the dtype cannot hold never is.

    Returns:
        The 0-d array; under a trace, NaN for a value out of range.

    Raises:
        ArgumentError: If the number is negative, too large or NaN.
        BackendError: If the value is neither a number nor a 0-d array of this library.
        DTypeError: If it is an array that does not hold real numbers.
        ShapeError: If it is an array that is not 0-d.
    """
    given: Any = value
    kind = type(given)
    if kind in _PLAIN_NUMBERS and 0 <= given <= min(upper, HELD):
        return backend.scalar(float(given), like)
    # A 0-d array that a block has checked, for its factors.
    if kind is type(like) and given.shape == () and given.dtype == like.dtype:
        number = backend.known_number(given)
        if number is not None and 0 <= number <= min(upper, HELD):
            backend_for(layer, argument, like, given)
            return backend.xp.astype(given, like.dtype, copy=True)
    if kind is RecordedNumber and 0 <= given <= min(upper, HELD):
        return backend.scalar(given, like)
    xp = backend.xp
    # A number that the dtype cannot hold would become infinite.
    largest = min(upper, float(xp.finfo(like.dtype).max))
    if _is_number(value):
        number = _as_python(value)
        _check_range(number, largest, argument, layer)
        # Libraries take no integers of more than 64 bits, but floats will do.
        return backend.scalar(float(number), like)
    array: Any = value
    if not hasattr(array, "shape") or isinstance(array, np.generic):
        msg = (
            f"{layer}: {argument} is a {type(array).__name__}, expected a number or a"
            " 0-d array"
        )
        raise BackendError(msg)
    if isinstance(array, np.ndarray) and not isinstance(like, np.ndarray | np.generic):
        msg = (
            f"{layer}: {argument}: arrays of two libraries in one call: {backend.name}"
            f" and numpy. Give a number, such as float({argument}), or a 0-d array of"
            f" {backend.name}; nothing is converted silently."
        )
        raise BackendError(msg)
    backend_for(layer, argument, like, array)
    check_shape(array, (), argument, layer)
    _check_real(backend, array, argument, layer)
    if not backend.is_traced(array):
        # PyTorch warns if a number is taken from a tensor that autograd tracks.
        known = backend.stop_gradient(array) if backend.has_graph(array) else array
        _check_range(float(known), largest, argument, layer)
    # It is copied even if the dtype is right: no array stands in two places of a state.
    found = xp.astype(array, like.dtype, copy=True)
    if backend.is_traced(found):
        # It has no value to refuse. NaN makes the results NaN, which are refused.
        inside = (found >= 0) & (found <= largest)
        found = xp.where(inside, found, xp.full_like(found, math.nan))
    return found


def as_vector(
    backend: Backend, value: Array, size: int, like: Array, argument: str, layer: str
) -> Array:
    """Return ``[size]`` numbers, not negative, with dtype and device of `like`.

    Args:
        backend: Backend of `like`.
        value: ``[size]``, real.
        size: Number of entries.
        like: Array that gives dtype and device.
        argument: Name of the value, for the message.
        layer: Name of the layer or factor, for the message.

    Raises:
        KfacError: As `as_scalar`, for the smallest and the largest entry.
    """
    xp = backend.xp
    backend_for(layer, argument, like, value)
    check_shape(value, (size,), argument, layer)
    _check_real(backend, value, argument, layer)
    for extreme in (xp.min, xp.max):
        as_scalar(backend, extreme(value), like, argument, layer)
    return xp.astype(value, like.dtype)


def as_dampings(
    backend: Backend,
    damping: Dampings,
    ids: tuple[DampingId, ...],
    like: Array,
    layer: str,
) -> dict[DampingId, Array]:
    """Return one 0-d damping for each damping id.

    Args:
        backend: Backend of `like`.
        damping: One damping for all ids, or a mapping from damping ids.
        ids: The ids that need one.
        like: Array that gives dtype and device.
        layer: Name of the layer or factor, for the message.

    Returns:
        The dampings, in the order of `ids`.

    Raises:
        ArgumentError: If a damping is missing, negative or not finite.
    """
    if not isinstance(damping, Mapping):
        if not ids:  # checked all the same
            as_scalar(backend, damping, like, "damping", layer)
        return {key: as_scalar(backend, damping, like, "damping", layer) for key in ids}
    missing = [key for key in ids if key not in damping]
    if missing:
        msg = f"{layer}: no damping for the ids {missing}, got {list(damping)}"
        raise ArgumentError(msg)
    return {
        key: as_scalar(backend, damping[key], like, f"damping[{shown(key)}]", layer)
        for key in ids
    }


def _check_real(backend: Backend, array: Array, argument: str, layer: str) -> None:
    if not backend.isdtype(array.dtype, ("real floating", "integral")):
        msg = f"{layer}: {argument} has dtype {array.dtype}, expected a real number"
        raise DTypeError(msg)


def _is_number(value: Any) -> bool:
    # NumPy's scalars count as numbers for any library; its 0-d arrays do not. A boolean
    # is an integer in Python, but it is meant as a flag.
    return isinstance(value, _NUMBERS) and value is not True and value is not False


def _as_python(value: Any) -> float | int:
    """Return a Python number, since NumPy's scalars compare in their own precision."""
    if isinstance(value, np.floating):
        return float(value)
    return int(value) if isinstance(value, np.integer) else value


def _check_range(value: Any, upper: float, argument: str, layer: str) -> None:
    if not 0 <= value <= upper:
        got = shown(value) if isinstance(value, int) else value
        msg = f"{layer}: {argument} is {got}, expected a number in [0, {upper:g}]"
        raise ArgumentError(msg)
