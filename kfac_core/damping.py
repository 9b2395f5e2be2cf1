"""How one damping becomes the damping of the two factors of a Kronecker product.

``c (A + a I) kron (G + g I)`` approximates ``c A kron G + damping I``. With
``l = damping / c^power``, the split is by name:

| name | ``a`` | ``g`` |
|---|---|---|
| ``pi`` | ``pi sqrt(l)`` | ``sqrt(l) / pi`` |
| ``off`` | ``sqrt(l)`` | ``sqrt(l)`` |
| ``constant`` | ``l`` | ``l`` |
| ``exact`` | none: ``c A kron G + damping I`` itself, in the eigenbasis | |

``pi`` is of Martens & Grosse (2015), section 6.3, and the original's; ``off`` is the
original's ``PI_TYPE = "off"``; ``constant`` the default of curvlinops, and what
kfac-pytorch does where it inverts.
"""

from typing import Literal

from kfac_core.backend import Backend
from kfac_core.typing import Array

DampingType = Literal["pi", "off", "constant", "exact"]
"""Name of a way to damp a Kronecker product."""

DAMPING_TYPES = ("pi", "off", "constant", "exact")


def normalize_damping(damping: Array, uses: Array, power: float) -> Array:
    """Return ``damping / uses^power``, 0-d.

    The product is multiplied by the number of uses (locations of a convolution), so
    that with power 1 the damping that is added to it is `damping` itself.

    Args:
        damping: 0-d.
        uses: 0-d, the mean number of uses or locations of a case.
        power: ``NORMALIZE_DAMPING_POWER`` of the original; 0 leaves the damping.

    Returns:
        The normalised damping.
    """
    return damping if power == 0 else damping / uses**power


def compute_pi(
    backend: Backend, trace_a: Array, size_a: int, trace_g: Array, size_g: int
) -> Array:
    """Return ``pi = sqrt((tr A / dim A) / (tr G / dim G))``, 0-d.

    It makes the error ``A kron g I + a I kron G`` of the split smallest in trace norm
    (Martens & Grosse, 2015, equation 31), and the damped product the same for
    ``(A, G)`` and ``(t A, G / t)``.

    Args:
        backend: Backend of the traces.
        trace_a: 0-d.
        size_a: Rows of ``A``, that of the bias included.
        trace_g: 0-d.
        size_g: Rows of ``G``.

    Returns:
        ``pi``; 1 where a trace is zero.
    """
    xp = backend.xp
    one = xp.ones_like(trace_a)
    positive = (trace_a > 0) & (trace_g > 0)
    # The unused branch of a `where` must be finite as well, for derivatives.
    ratio = (trace_a / size_a) / (xp.where(positive, trace_g, one) / size_g)
    return xp.sqrt(xp.where(positive, ratio, one))


def split_damping(
    backend: Backend, kind: DampingType, damping: Array, pi: Array
) -> tuple[Array, Array]:
    """Return the dampings of ``A`` and of ``G``.

    Args:
        backend: Backend of the arrays.
        kind: Name of the split; not ``"exact"``, which splits nothing.
        damping: 0-d, normalised.
        pi: 0-d, of `compute_pi`.

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
