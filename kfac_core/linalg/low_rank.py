"""`LowRankOperator`: a multiple of the identity, plus a matrix of low rank.

With rows ``U`` ``[r, n]``, every power of ``U' U + d I`` has this form (Woodbury, 1950,
for the inverse), and needs only the eigendecomposition of the small matrix ``U U' = V s
V'``:

    (U' U + d I)^p  =  d^p I  +  U' V diag(((d + s)^p - d^p) / s) V' U.
"""

from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg import psd
from kfac_core.linalg.operators import operands, promoted
from kfac_core.registry import backend_of
from kfac_core.typing import Array


class LowRankOperator(NamedTuple):
    """The symmetric matrix ``scale I + rows' core rows``.

    Attributes:
        scale: 0-d.
        rows: ``[r, n]``.
        core: ``[r, r]``, symmetric; None for the identity.

    Example:
        >>> import numpy as np
        >>> operator = LowRankOperator(np.asarray(1.0), np.asarray([[1.0, 2.0]]))
        >>> operator.to_dense()
        array([[2., 2.],
               [2., 5.]])
        >>> operator.matmul(np.ones((2, 1)))
        array([[4.],
               [7.]])
    """

    scale: Array
    rows: Array
    core: Array | None = None

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""
        return self.rows.shape[1]

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``operator @ x``; `adjoint_arg` transposes `x`."""
        del adjoint  # The matrix is symmetric.
        backend, rows, x = operands(self, self.rows, x, adjoint_arg)
        # Full precision is needed: along the rows the two terms nearly cancel.
        inner = backend.matmul(rows, x)
        if self.core is not None:
            inner = backend.matmul(promoted(self.core, inner)[0], inner)
        product: Array = self.scale * x + backend.matmul(rows.mT, inner)
        return product

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``x @ operator``; `adjoint_arg` transposes `x`."""
        _, _, x = operands(self, self.rows, x, adjoint_arg, -1)
        return self.matmul(x, adjoint=adjoint, adjoint_arg=True).mT

    def trace(self) -> Array:
        """Return the trace, 0-d."""
        backend, rows = backend_of(self.rows), self.rows
        weighted = rows if self.core is None else backend.matmul(self.core, rows)
        total: Array = backend.xp.sum(weighted * rows)
        return self.scale * self.domain_dimension + total

    def to_dense(self) -> Array:
        """Return the matrix, ``[n, n]``, symmetric bit for bit."""
        backend, rows = backend_of(self.rows), self.rows
        if self.core is None:
            dense = backend.gram(rows)
        else:
            half = backend.matmul(rows.mT, backend.matmul(self.core, rows))
            dense = (half + half.mT) / 2
        return backend.damp(dense, self.scale)


def power_core(
    backend: Backend,
    gram: Array,
    damping: Array,
    exp: float,
) -> Array:
    """Return the core of ``(U' U + damping I)^exp``, whose scale is ``damping^exp``.

    Args:
        backend: Backend of `gram`.
        gram: ``U U'``, ``[r, r]``.
        damping: 0-d, not negative.
        exp: The exponent.

    Returns:
        ``[r, r]``, symmetric; NaN where the power does not exist, which is a negative
        power without damping.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> rows = np.asarray([[1.0, 0.0]])  # U' U + I = diag(2, 1)
        >>> power_core(backend_of(rows), rows @ rows.T, np.asarray(1.0), -1)
        array([[-0.5]])
    """
    if exp == -1:
        inverse = psd.power(backend, gram, damping, exp)
        return -psd.positive_power(backend, damping, exp) * inverse
    eigen = psd.eigendecomposition(backend, gram)
    core = _quotient(backend, eigen.values, damping, exp)
    root = eigen.vectors * backend.xp.sqrt(backend.xp.abs(core))[None, :]
    # All values have one sign, since a power is monotonic.
    product = backend.gram(root.mT)
    return product if exp >= 0 else -product


def _quotient(backend: Backend, s: Array, damping: Array, exp: float) -> Array:
    """Return ``((d + s)^p - d^p) / s``; where ``s`` is zero its limit ``p d^(p-1)``.

    It is computed as ``(1 - exp(-|p| log(1 + s / d))) / s`` times the larger of the two
    powers and the sign of ``p``, so that nothing cancels where ``s`` is small. Where
    both ``d`` and ``s`` are zero, the value does not matter, and is zero.
    """
    xp = backend.xp
    one, zero = xp.ones_like(s), xp.zeros_like(s)
    if exp == 0:
        return zero
    larger = psd.positive_power(backend, damping + (s if exp > 0 else zero), exp)
    damped = damping > zero
    divisor = xp.where(damped, damping, one)
    lost = xp.where(damped, -xp.expm1(-abs(exp) * xp.log1p(s / divisor)), one)
    limit = xp.where(damped, abs(exp) / divisor, zero)
    quotient = larger * xp.where(s > 0, lost / xp.where(s > 0, s, one), limit)
    return quotient if exp > 0 else -quotient
