"""How one damping is split between the two factors of a Kronecker product.

``c (A + a I) kron (G + g I)`` approximates ``c A kron G + damping I``. There are
several ways to split the damping. With ``l = damping / c^power``:

| name | ``a`` | ``g`` |
|---|---|---|
| ``pi`` | ``pi sqrt(l)`` | ``sqrt(l) / pi`` |
| ``off`` | ``sqrt(l)`` | ``sqrt(l)`` |
| ``constant`` | ``l`` | ``l`` |
| ``exact`` | none: ``c A kron G + damping I`` itself, in the eigenbasis | |

``pi`` is from Martens & Grosse (2015), section 6.3, and the default of
``tf.contrib.kfac``; ``off`` is ``PI_TYPE = "off"`` there; ``constant`` is the default
of curvlinops, and what kfac-pytorch does where it inverts.

Functions take checked arrays of one backend.
"""

import math
from typing import Any, Literal

from kfac_core.backend import Backend
from kfac_core.linalg.in_range import times_power
from kfac_core.typing import Array

DampingType = Literal["pi", "off", "constant", "exact"]
"""Name of a way to damp a Kronecker product."""

DAMPING_TYPES = ("pi", "off", "constant", "exact")


def normalize_damping(damping: Array, uses: Array, power: float) -> Array:
    """Return ``damping / uses^power``, 0-d.

    The product is multiplied by the number of uses (locations of a convolution). With
    power 1, `damping` itself is added to the product after that.

    Args:
        damping: 0-d.
        uses: 0-d, the mean number of uses or locations of a case.
        power: ``NORMALIZE_DAMPING_POWER`` of ``tf.contrib.kfac``; 0 leaves the damping.

    Returns:
        The normalised damping.
    """
    return damping / uses if power == 1 else times_power(damping, uses, -power)


def compute_pi(
    backend: Backend, trace_a: Array, size_a: int, trace_g: Array, size_g: int
) -> Array:
    """Return ``pi = sqrt((tr A / dim A) / (tr G / dim G))``, 0-d.

    This ``pi`` minimises the trace norm of the split's error, ``A kron g I + a I kron
    G`` (Martens & Grosse, 2015, equation 31). It also makes the damped product the same
    for ``(A, G)`` and ``(t A, G / t)``.

    Args:
        backend: Backend of the traces.
        trace_a: 0-d.
        size_a: Number of rows of ``A``, including the row of the bias.
        trace_g: 0-d.
        size_g: Number of rows of ``G``.

    Returns:
        ``pi``; 1 where a trace is zero (`split_by_traces` takes the limit instead).
    """
    xp = backend.xp
    one = xp.ones_like(trace_a)
    positive = (trace_a > 0) & (trace_g > 0)
    # Roots are divided: the quotient of the traces leaves the range before its root.
    # The unused branch of a `where` must be finite as well, for derivatives.
    root_a = _root_of_mean(backend, xp.where(positive, trace_a, one), size_a)
    root_g = _root_of_mean(backend, xp.where(positive, trace_g, one), size_g)
    return xp.where(positive, root_a / root_g, one)


def split_by_traces(
    backend: Backend,
    damping: Array,
    traces: tuple[Array, Array],
    sizes: tuple[int, int],
    rows: int | None = None,
) -> tuple[Array, Array]:
    """Return the dampings ``a`` of ``A`` and ``g`` of ``G`` by `pi`, in the range.

    Let ``l`` be the damping, and ``alpha`` and ``beta`` the mean eigenvalues of ``A``
    and ``G``. Then ``a = pi sqrt(l)`` with ``pi = sqrt(alpha / beta)``, and ``a g =
    l``. For small ``beta``, ``a`` would grow without bound, and without effect: once
    ``a >= N alpha``, the terms ``A kron g I`` and ``a I kron G`` are at most ``l n /
    N`` and ``l m / N``, for ``n`` and ``m`` rows. So ``a`` stops there, with ``N = (n +
    m) / eps``, and the damped product changes by at most ``eps l``. For ``G = 0`` this
    is the limit, in which ``l`` alone damps the block; ``pi = 1`` would add ``sqrt(l)
    A``. The same holds with the two sides exchanged.

    In addition, both dampings stay in ``[k tiny max(1, l), min(1, l) / (k tiny)]``,
    with ``k = 4``, so that they and their inverses are in the range. At that bound
    ``g`` is ``k tiny``, and adds ``k tiny A``.

    Args:
        backend: Backend of the arrays.
        damping: ``l``, 0-d, normalised.
        traces: Traces of ``A`` and ``G``, 0-d.
        sizes: Numbers of rows of ``A`` and ``G``.
        rows: ``n + m``; None: the sum of the sizes.

    Returns:
        Two 0-d arrays.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> damping, one = np.asarray(4.0), np.asarray(1.0)
        >>> split = split_by_traces(backend_of(one), damping, (one * 16, one), (4, 1))
        >>> float(split[0]), float(split[1])
        (4.0, 1.0)
    """
    xp = backend.xp
    info: Any = xp.finfo(damping.dtype)
    highest = 1 / (4 * float(info.smallest_normal))
    root = xp.sqrt(damping)
    safe = xp.where(root > 0, root, xp.ones_like(root))
    means = [
        _root_of_mean(backend, trace, size)
        for trace, size in zip(traces, sizes, strict=True)
    ]
    of_a_is_larger = means[0] >= means[1]
    larger = xp.where(of_a_is_larger, means[0], means[1])
    smaller = xp.where(of_a_is_larger, means[1], means[0])
    pi = larger / smaller
    # Everything is computed with roots; their squares are in the range where used.
    most = larger * math.sqrt((rows or sum(sizes)) / float(info.eps)) / xp.sqrt(safe)
    most = xp.maximum(most, xp.ones_like(most))
    enough = xp.minimum(most, xp.sqrt(pi))
    pi = xp.where(enough < xp.sqrt(pi), enough * enough, pi)
    # min(1, l) / sqrt(l), in two ways that each stay in the range.
    bound = xp.minimum(safe, 1 / xp.maximum(safe, xp.ones_like(safe)))
    pi = xp.minimum(pi, highest * bound)
    above, below = root * pi, root / pi
    return (
        xp.where(of_a_is_larger, above, below),
        xp.where(of_a_is_larger, below, above),
    )


def _root_of_mean(backend: Backend, trace: Array, size: int) -> Array:
    """Return the root of the mean eigenvalue, which is at least the least normal."""
    # Smaller numbers are zero for some compilers, and have few digits elsewhere.
    info: Any = backend.xp.finfo(trace.dtype)
    return backend.xp.sqrt(backend.xp.clip(trace / size, min=info.smallest_normal))


def split_damping(
    backend: Backend, kind: DampingType, damping: Array, pi: Array
) -> tuple[Array, Array]:
    """Return the dampings of ``A`` and of ``G``.

    Args:
        backend: Backend of the arrays.
        kind: Name of the split; not ``"exact"``, which splits nothing.
        damping: 0-d, normalised.
        pi: 0-d, from `compute_pi`.

    Returns:
        Two 0-d arrays.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> damping, pi = np.asarray(4.0), np.asarray(2.0)
        >>> split = split_damping(backend_of(pi), "pi", damping, pi)
        >>> float(split[0]), float(split[1])
        (4.0, 1.0)
    """
    if kind == "constant":
        return damping, damping
    root = backend.xp.sqrt(damping)
    return (root, root) if kind == "off" else (root * pi, root / pi)
