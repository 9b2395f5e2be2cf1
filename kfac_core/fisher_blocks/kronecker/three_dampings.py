"""How the damping of a product of three factors is split between them."""

from collections.abc import Sequence
from typing import Any, Literal

from kfac_core.backend import Backend
from kfac_core.damping import split_by_traces
from kfac_core.typing import Array

SplitDamping = Literal["pi", "off", "constant"]
"""How the damping of a product is split between its factors."""


def split_in_three(
    backend: Backend,
    kind: SplitDamping,
    damping: Array,
    means: Sequence[Array],
    rows: int = 3,
) -> tuple[Array, ...]:
    """Return the dampings of the three factors of a product.

    With ``t`` the mean eigenvalues of the factors, ``"pi"`` damps each by ``t_i
    (damping / (t_1 t_2 t_3))^(1/3)``. Among all dampings ``m_i`` whose product is
    `damping`, these give the error ``kron(M_i + m_i I) - kron(M_i) - damping I`` the
    least trace. Relative to the trace of the product, it is ``sum x_i + sum x_i x_j``
    with ``x_i = m_i / t_i``; since the product of the ``x_i`` is given, the sum is
    least where all ``x_i`` are equal. For two factors this rule is the ``pi`` of
    Martens & Grosse (2015), section 6.3. ``"off"`` damps each factor by
    ``damping^(1/3)``, ``"constant"`` by `damping`.

    Where one mean is zero or far below the others, the dampings of the other factors
    would grow without bound. As in `kfac_core.damping.split_by_traces`, the largest
    damping stops at ``N`` times its mean, ``N = rows / eps``, and `split_by_traces`
    splits the rest of the damping between the other two factors.

    Args:
        backend: Backend of the arrays.
        kind: Name of the split.
        damping: 0-d.
        means: 0-d each.
        rows: Number of rows of all three factors together.

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
    root = damping**third
    if kind == "off":
        return (root, root, root)
    info: Any = xp.finfo(damping.dtype)
    tiny = float(info.smallest_normal)
    means = [xp.clip(mean, min=tiny) for mean in means]
    is_first = (means[0] >= means[1]) & (means[0] >= means[2])
    is_second = ~is_first & (means[1] >= means[2])
    largest = xp.maximum(xp.maximum(means[0], means[1]), means[2])
    others = (
        xp.where(is_first, means[1], means[0]),
        xp.where(is_first | is_second, means[2], means[1]),
    )
    # (damping / (t_1 t_2 t_3))^(1/3), at most N: each part is in the range.
    most = rows / float(info.eps)
    inverse = 1 / (others[0] ** third * others[1] ** third)
    times = xp.minimum(root / largest**third, most / inverse) * inverse
    # So both it and the rest of the damping are in the range.
    one = xp.ones_like(damping)
    highest = 1 / (4 * tiny)
    times = xp.minimum(times, highest / xp.maximum(largest, one))
    of_largest = xp.minimum(largest * times, highest * xp.minimum(damping, one))
    of_largest = xp.maximum(root, of_largest)
    left = damping / of_largest
    x, y = split_by_traces(backend, left, others, (1, 1), rows)
    return (
        xp.where(is_first, of_largest, x),
        xp.where(is_first, x, xp.where(is_second, of_largest, y)),
        xp.where(is_first | is_second, y, of_largest),
    )
