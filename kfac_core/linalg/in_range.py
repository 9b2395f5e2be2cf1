"""Products and powers whose steps stay in the range of a dtype if the result does.

A product may be in the middle of the range, and leave it on the way: ``1e30 * 1e9 *
1e-20`` in float32. Only the order of the steps decides.
"""

import math

from kfac_core.backend import Backend
from kfac_core.typing import Array

MOST_PARTS = 64
"""Largest number of steps in which a power is taken."""


def scaled_product(backend: Backend, scale: Array, x: Array, y: Array) -> Array:
    """Return ``scale * x * y`` of numbers that are not negative.

    A scale above one is first multiplied with the smaller of `x` and `y`, a scale below
    one with the larger. If this first step leaves the range, so does the product. For a
    scale ``c >= 1``, ``c min(x, y)`` is not below ``min(x, y)``; and it is above the
    range only where ``max(x, y)`` is above one, too. For ``c < 1`` the same holds with
    above and below exchanged.

    Args:
        backend: Backend of the arrays.
        scale: 0-d.
        x: Any shape.
        y: Any shape that broadcasts with `x`.

    Returns:
        The product; where it is a normal number of the dtype, it has two roundings.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> scale, x, y = (np.asarray(x, np.float32) for x in (1e9, 1e30, 1e-20))
        >>> product = float(scaled_product(backend_of(x), scale, x, y))
        >>> round(product / 1e19, 6)
        1.0
    """
    xp, one = backend.xp, backend.xp.ones_like(scale)
    smaller = xp.minimum(x, y) * xp.maximum(scale, one)
    return smaller * (xp.maximum(x, y) * xp.minimum(scale, one))


def times_power(x: Array, base: Array, exp: float) -> Array:
    """Return ``x * base^exp`` for a base that is not negative.

    The power is split into steps whose exponents are at most one in absolute value.
    Each step is in the range, and so is each product, since it lies between `x` and the
    result. So the result is right wherever it and the inverse of `base` are normal
    numbers, for exponents up to `MOST_PARTS`.

    Args:
        x: Any shape.
        base: Any shape that broadcasts with `x`.
        exp: The exponent.

    Returns:
        The product.

    Example:
        >>> import numpy as np
        >>> product = float(times_power(np.float32(1e20), np.float32(1e20), -2))
        >>> round(product * 1e20, 6)
        1.0
    """
    if exp == 0:
        return x
    parts = min(max(math.ceil(abs(exp)), 1), MOST_PARTS)
    part = base ** (exp / parts)
    for _ in range(parts):
        x = x * part
    return x
