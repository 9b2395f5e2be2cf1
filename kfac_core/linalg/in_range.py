"""Products and powers whose steps stay in the range where what they give does.

A number in the middle of the range may be a product that leaves it on the way:
``1e30 * 1e9 * 1e-20`` in float32. What is right is a matter of the order alone.
"""

import math

from kfac_core.backend import Backend
from kfac_core.typing import Array

MOST_PARTS = 64
"""Powers are taken in so many steps at the most."""


def scaled_product(backend: Backend, scale: Array, x: Array, y: Array) -> Array:
    """Return ``scale * x * y`` of numbers that are not negative.

    A scale above one is first multiplied with the smaller of the two, one below with
    the larger. If that overflows, or falls below the range, so does the product: for
    ``c >= 1``, ``c min(x, y)`` is not below ``min(x, y)``, and above the range only
    where it, and so ``max(x, y)``, is above one; for ``c < 1`` the other way round.

    Args:
        backend: Backend of the arrays.
        scale: 0-d.
        x: Of any shape.
        y: Of a shape that goes with that of `x`.

    Returns:
        The product; where it is a normal number of the dtype, of two roundings.

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
    """Return ``x * base^exp``, of a base that is not negative.

    In steps of powers of at most one, each of which is in the range, as are the
    products: they lie between `x` and what is returned. So it is right wherever that
    and the inverse of `base` are normal numbers, for exponents up to `MOST_PARTS`.

    Args:
        x: Of any shape.
        base: Of a shape that goes with that of `x`.
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
