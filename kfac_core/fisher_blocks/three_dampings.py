"""How a product of three factors is damped in each."""

from collections.abc import Sequence
from typing import Literal

from kfac_core.backend import Backend
from kfac_core.typing import Array

SplitDamping = Literal["pi", "off", "constant"]
"""How the damping of a product becomes that of its factors."""


def split_in_three(
    backend: Backend, kind: SplitDamping, damping: Array, means: Sequence[Array]
) -> tuple[Array, ...]:
    """Return the dampings of the three factors of a product.

    With ``t`` the mean eigenvalues of the factors, ``"pi"`` damps each by
    ``t_i (damping / (t_1 t_2 t_3))^(1/3)``. Of all dampings whose product is
    `damping`, the error ``kron(M_i + m_i I) - kron(M_i) - damping I`` has the least
    trace for these: relative to the product's, it is ``sum x_i + sum x_i x_j`` with
    ``x_i = m_i / t_i``, whose product is given, and so least where all are equal. For
    two factors that is the ``pi`` of Martens & Grosse (2015), section 6.3. ``"off"``
    damps each by ``damping^(1/3)``, ``"constant"`` by `damping`.

    Args:
        backend: Backend of the arrays.
        kind: Name of the split.
        damping: 0-d.
        means: 0-d each; where one is zero, ``"pi"`` is ``"off"``.

    Returns:
        Three 0-d arrays.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> damping = np.asarray(8.0)
        >>> means = [np.asarray(x) for x in (4.0, 2.0, 1.0)]
        >>> split = split_in_three(backend_of(damping), "pi", damping, means)
        >>> [round(float(x), 12) for x in split]
        [4.0, 2.0, 1.0]
    """
    if kind == "constant":
        return (damping, damping, damping)
    xp, third = backend.xp, 1.0 / 3.0
    root, one = damping**third, xp.ones_like(damping)
    if kind == "off":
        return (root, root, root)
    positive = (means[0] > 0) & (means[1] > 0) & (means[2] > 0)
    roots = [xp.where(positive, mean, one) ** third for mean in means]

    # Traces whose ratios leave the range of float32 are as far apart as can be told.
    def ratio(x: Array, y: Array) -> Array:
        return xp.minimum(xp.maximum(x / y, one * 1e-18), one * 1e18)

    a, b, c = roots
    return (
        root * ratio(a, b) * ratio(a, c),
        root * ratio(b, a) * ratio(b, c),
        root * ratio(c, a) * ratio(c, b),
    )
