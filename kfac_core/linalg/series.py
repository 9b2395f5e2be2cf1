"""The Fisher of a layer that is used in series, from covariances of lags zero and one.

Let ``C`` be the damped second moment of the rows of all uses, and ``C1`` the one of lag
one. With ``Psi = C^(-1/2) C1 C^(-1/2)``, the covariance of lag ``d`` is taken to be
that of a chain, ``C_d = C^(1/2) Psi^d C^(1/2)``. For two factors ``A`` and ``G``, and
``T`` uses, the block is (Martens, Ba & Johnson, 2018, section 3.5)

- option 1, with ``Psi`` made symmetric: the sum of ``(T - |d|) kron(A_d, G_d)`` over
  ``|d| < T``;
- option 2, for unbounded ``T``: ``T`` times the sum of ``kron(A_d, G_d)`` over all
  ``d``, where ``C_-d`` is the transpose of ``C_d``.
"""

from collections.abc import Iterable
from math import pi
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg import psd
from kfac_core.linalg.kronecker import kron
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class Option1Quants(NamedTuple):
    """What option 1 needs of a factor.

    Attributes:
        lmat: ``C^(-1/2) U``, ``[n, n]``, with the eigenvectors ``U`` of ``Psi``.
        psi: Eigenvalues of ``Psi``, ``[n]``, ascending.
    """

    lmat: Array
    psi: Array


@state_class
class Option2Quants(NamedTuple):
    """What option 2 needs of a factor.

    Attributes:
        pmat: ``C1' C^-1``, ``[n, n]``.
        kmat: ``C^(-1/2) E``, ``[n, n]``, with the right singular vectors ``E`` of
            ``Psi``.
        mu: Squares of the singular values of ``Psi``, ``[n]``, in [0, 1].
    """

    pmat: Array
    kmat: Array
    mu: Array


def option1_quants(backend: Backend, root: Array, lagged: Array) -> Option1Quants:
    """Return what option 1 needs.

    Args:
        backend: Backend of the arrays.
        root: ``C^(-1/2)``, ``[n, n]``.
        lagged: ``C1``, ``[n, n]``; its symmetric part counts.

    Returns:
        The quantities; NaN where `root` is NaN.
    """
    product = backend.matmul
    symmetric = (lagged + lagged.mT) / 2
    psi, vectors = backend.eigh(product(product(root, symmetric), root))
    return Option1Quants(product(root, vectors), psi)


def option2_quants(backend: Backend, root: Array, lagged: Array) -> Option2Quants:
    """Return what option 2 needs; see `option1_quants`."""
    product = backend.matmul
    half = product(root, lagged)
    # The left singular vectors are not needed, and the squares are.
    mu, vectors = backend.eigh(backend.gram(product(half, root)))
    # Rounding leaves the bounds; NaN stays.
    bounded = backend.xp.clip(mu, 0.0, 1.0)
    return Option2Quants(product(half.mT, root), product(root, vectors), bounded)


def lag_sum(backend: Backend, x: Array, uses: Array) -> Array:
    """Return the sum of ``(T - |d|) x^|d|`` over ``|d| < T``.

    Its closed form ``(T (1 - x^2) - 2 x (1 - x^T)) / (1 - x)^2`` is 0 / 0 at ``x = 1``,
    where the sum is ``T^2``. With ``x = exp(-h)`` it becomes

        (T (sinh h - h) + (T h - 1 + exp(-T h))) / (2 sinh(h / 2)^2).

    Each part of this has a Taylor series without cancellation, which is used for ``x >
    1/2``. Below, the closed form does not cancel. The result is accurate to about 10
    units in the last place.

    Args:
        backend: Backend of the arrays.
        x: In [-1, 1], of any shape.
        uses: ``T``, 0-d, at least one. If it is a mean, and not an integer, the sign of
            ``(-1)^T`` is ``cos(pi T)``.

    Returns:
        The sums, of the shape of `x`, not negative.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x = np.asarray([1.0, 0.0, -1.0, 0.5])
        >>> lag_sum(backend_of(x), x, np.asarray(3.0)).round(12)
        array([9. , 3. , 1. , 5.5])
    """
    xp = backend.xp
    one = xp.ones_like(x)
    near = x > 0.5
    h = -xp.log1p(xp.where(near, x, one) - 1)
    steps = uses * h
    small = steps < 1
    tail = xp.where(small, one, steps)
    decay = xp.where(
        small,
        _nested(xp.where(small, -steps, -one), range(3, 20)) / 2,
        (tail + xp.expm1(-tail)) / (tail * tail),
    )
    rest = h / 6 * _nested(h * h, (2 * k * (2 * k + 1) for k in range(2, 10)))
    sinhc = _nested(h * h / 4, (2 * k * (2 * k + 1) for k in range(1, 8)))
    above = 2 * (uses * rest + uses * uses * decay) / (sinhc * sinhc)

    far = xp.where(near, 0 * x, x)
    size = xp.abs(far)
    log = xp.log(xp.where(size > 0, size, one))
    parity = xp.cos(pi * xp.remainder(uses, 2 * xp.ones_like(uses)))
    sign = xp.where(far < 0, parity * one, one)
    power = (1 - sign) - sign * xp.expm1(uses * log)
    below = (uses * (1 - far) * (1 + far) - 2 * far * power) / ((1 - far) * (1 - far))
    return xp.where(near, above, below)


def option1_matrix(
    backend: Backend,
    inputs: tuple[Array, Array],
    outputs: tuple[Array, Array],
    uses: Array,
) -> Array:
    """Return the block of option 1, dense.

    Args:
        backend: Backend of the arrays.
        inputs: ``C^(1/2)`` and ``Psi`` of the factor ``A``.
        outputs: ``C^(1/2)`` and ``Psi`` of the factor ``G``.
        uses: ``T``, 0-d.

    Returns:
        ``[n * m, n * m]``, symmetric bit for bit.
    """
    sides = []
    for root, psi in (inputs, outputs):
        values, vectors = backend.eigh((psi + psi.mT) / 2)
        sides.append((values, backend.matmul(root, vectors)))
    (psi_a, a), (psi_g, g) = sides
    x = backend.xp.clip(psi_a[:, None] * psi_g[None, :], -1.0, 1.0)
    weights = backend.xp.reshape(lag_sum(backend, x, uses), (1, -1))
    return backend.gram((kron(backend, a, g) * backend.xp.sqrt(weights)).mT)


def option2_matrix(
    backend: Backend,
    inputs: tuple[Array, Array],
    outputs: tuple[Array, Array],
    uses: Array,
) -> Array:
    """Return the block of option 2, dense; see `option1_matrix`."""
    (root_a, psi_a), (root_g, psi_g) = inputs, outputs
    root, psi = kron(backend, root_a, root_g), kron(backend, psi_a, psi_g)
    device = backend.creation_device(psi)
    eye = backend.xp.eye(psi.shape[0], dtype=psi.dtype, device=device)
    # The sum of the powers of Psi, from the first on.
    later = backend.xp.linalg.solve(eye - psi, psi)
    lags = backend.matmul(backend.matmul(root, later), root)
    block: Array = uses * (backend.gram(root) + (lags + lags.mT))
    return block


def root_and_psi(
    backend: Backend, eigen: Eigendecomposition, lagged: Array
) -> tuple[Array, Array]:
    """Return ``C^(1/2)`` and ``Psi`` of an undamped factor, by the pseudo-inverse.

    The rows of ``C1`` lie in the span of the rows of ``C``, so that this is the limit
    of a damping that goes to zero.

    Args:
        backend: Backend of the arrays.
        eigen: The eigendecomposition of ``C``.
        lagged: ``C1``.

    Returns:
        Two arrays ``[n, n]``.
    """
    xp = backend.xp
    values = eigen.values
    noise = values.shape[0] * xp.finfo(values.dtype).eps * xp.max(values)
    known = values > noise
    safe = xp.where(known, values, xp.ones_like(values))
    power = xp.where(known, safe**-0.5, xp.zeros_like(values))
    product = backend.matmul
    inverse_root = product(eigen.vectors * power[None, :], eigen.vectors.mT)
    zero = backend.xp.zeros_like(power[0])
    root = psd.eigen_power(backend, eigen, zero, 0.5)
    return root, product(product(inverse_root, lagged), inverse_root)


def _nested(x: Array, divisors: Iterable[int]) -> Array:
    """Return ``1 + x / d1 (1 + x / d2 (1 + ...))``."""
    total = x * 0 + 1
    for divisor in reversed(list(divisors)):
        total = 1 + x / divisor * total
    return total
