"""Formulas of a few numbers, computed with NumPy's scalars where the numbers are known.

A library takes some microseconds for an operation on a 0-d array, NumPy's scalars some
hundredths of one. Both round alike, so that the result is the same bit for bit. Under a
trace, and on a device that would have to be waited for, numbers are not known, and the
formula is one of arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kfac_core.backend import Backend
from kfac_core.typing import Array


def of_numbers(
    backend: Backend,
    formula: Callable[..., tuple[Array, ...]],
    *numbers: Array,
) -> tuple[Array, ...]:
    """Return 0-d arrays that are computed from others.

    Args:
        backend: Backend of the arrays.
        formula: Takes a backend and the numbers, and returns others of their dtype. It
            uses the functions of `_Scalars` alone.
        *numbers: 0-d arrays of one dtype, at least one.

    Returns:
        What the formula returns.

    Example:
        >>> from kfac_core.registry import backend_of
        >>> four = np.asarray(4.0)
        >>> of_numbers(backend_of(four), lambda b, x: (b.xp.sqrt(x), x / 2), four)
        (np.float64(2.0), np.float64(2.0))
    """
    known = []
    for x in numbers:
        number = backend.known_number(x)
        if number is None:
            return formula(backend, *numbers)
        known.append(number)
    like = numbers[0]
    if backend.xp is np:  # whose warnings every verb silences
        return formula(_KNOWN, *known)
    with np.errstate(all="ignore"):
        given: Any = formula(_KNOWN, *known)
    return tuple([backend.scalar(number.item(), like) for number in given])


class _Scalars:
    """The functions of an array namespace that formulas of numbers need."""

    finfo, sqrt = staticmethod(np.finfo), staticmethod(np.sqrt)

    @staticmethod
    def where(condition: Any, x: Any, y: Any) -> Any:
        return x if condition else y

    @staticmethod
    def ones_like(x: Any) -> Any:
        return x.dtype.type(1)

    @staticmethod
    def maximum(x: Any, y: Any) -> Any:
        return x if x > y or x != x else y  # NaN, as in arrays, is returned

    @staticmethod
    def minimum(x: Any, y: Any) -> Any:
        return x if x < y or x != x else y

    @staticmethod
    def clip(x: Any, *, min: float) -> Any:
        return x.dtype.type(min) if x < min else x


class _Known:
    """A backend of known numbers, which has a namespace alone."""

    xp = _Scalars


_KNOWN: Any = _Known
