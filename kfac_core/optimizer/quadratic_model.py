"""The quadratic model of the mean loss along a few directions.

    q(d) = g'd + d' (F + L) d / 2,    d = sum_i s_i d_i,

where ``L`` is the damping times the identity (or each parameter's damping, if layers
have their own), ``g`` is the gradient of the mean loss, and ``F`` is the exact Fisher
on the batch, not an approximation (Martens & Grosse, 2015, sections 6.4 and 7). It
takes one product with the Jacobian for each direction.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from kfac_core.backend import Backend
from kfac_core.estimator import MatrixType
from kfac_core.linalg.named import Named, inner
from kfac_core.linearization.checked import CheckedLinearization
from kfac_core.optimizer.layer_damping import Damping, penalised
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.typing import Array, Scalar

Rows: TypeAlias = tuple[tuple[Array, ...], ...]
"""A small matrix of 0-d arrays."""


class QuadraticModel(NamedTuple):
    """Products of the directions ``d_i``.

    Attributes:
        slopes: ``g'd_i``.
        curvature: ``d_i' F d_j``, as a tuple of rows.
        products: ``d_i' d_j``, as a tuple of rows.
        penalties: ``d_i' L d_j``, as a tuple of rows.
    """

    slopes: tuple[Array, ...]
    curvature: Rows
    products: Rows

    penalties: Rows

    def change(self, coefficients: Sequence[Scalar], penalty: float | None) -> Array:
        """Return ``q(sum_i s_i d_i)``.

        Args:
            coefficients: The ``s_i``.
            penalty: Replaces ``L`` by this multiple of the identity; None: ``L``
                itself.

        Returns:
            The change of the mean loss that the model predicts, 0-d.
        """
        total = self.slopes[0] * 0
        for i, (s, slope) in enumerate(zip(coefficients, self.slopes, strict=True)):
            total = total + s * slope
            for j, t in enumerate(coefficients):
                total = total + s * t * self._entry(i, j, penalty) / 2
        return total

    def best(self, backend: Backend) -> tuple[Array, Array]:
        """Return the ``(alpha, mu)`` that minimise the model of two directions.

        If the second direction is zero, or nearly a multiple of the first, ``mu`` is 0.

        Args:
            backend: Backend of the products.

        Returns:
            ``alpha`` and ``mu``, 0-d.
        """
        xp = backend.xp
        m11, m12, m22 = self._entry(0, 0), self._entry(0, 1), self._entry(1, 1)
        ratio = _quotient(backend, m12, m11)
        # What is left of m22 once the first direction is eliminated. The smaller it is
        # against m22, the more digits it has lost; where half of them or more are lost,
        # the solution would be noise.
        left = m22 - m12 * ratio
        digits = float(xp.finfo(m22.dtype).eps) ** 0.5
        usable = left > digits * m22
        slope = self.slopes[1] - self.slopes[0] * ratio
        mu = xp.where(usable, -_quotient(backend, slope, left), xp.zeros_like(left))
        return self.best_along_first(backend, mu), mu

    def best_along_first(self, backend: Backend, mu: Scalar) -> Array:
        """Return the ``alpha`` that minimises the model for a given ``mu``."""
        slope = self.slopes[0] + mu * self._entry(0, 1)
        return -_quotient(backend, slope, self._entry(0, 0))

    def _entry(self, i: int, j: int, penalty: float | None = None) -> Array:
        if penalty is None:
            return self.curvature[i][j] + self.penalties[i][j]
        return self.curvature[i][j] + penalty * self.products[i][j]


def quadratic_model(
    backend: Backend,
    computer: CurvatureMatrixVectorProductComputer,
    linearization: CheckedLinearization,
    matrix: MatrixType,
    gradient: Named,
    damping: Damping,
    directions: Sequence[Named],
) -> QuadraticModel:
    """Return the model of the mean loss along some directions.

    Args:
        backend: Backend of the parameters.
        computer: Multiplies with the factor of the matrix.
        linearization: The loss at the parameters and the batch; or at a shard of it,
            whose curvature becomes that of the batch.
        matrix: The Fisher; or the GGN, which also takes the place of the empirical
            Fisher, since the latter is not a model of the loss.
        gradient: Gradient of the mean loss.
        damping: The damping in ``L``: 0-d, or one for each parameter.
        directions: The ``d_i``.

    Returns:
        The model.
    """
    multiply = (
        computer.multiply_fisher_factor_transpose
        if matrix == "Fisher"
        else computer.multiply_ggn_factor_transpose
    )
    pushed = [multiply(linearization, d) for d in directions]
    size = linearization.batch_size
    curvature = _rows(lambda x, y: inner(backend, x, y) / size, pushed)
    if linearization.is_shard:
        curvature = _of_all_shards(backend, linearization, curvature)
    products = _rows(lambda x, y: inner(backend, x, y), directions)
    return QuadraticModel(
        slopes=tuple(inner(backend, gradient, d) for d in directions),
        curvature=curvature,
        products=products,
        penalties=_rows(lambda x, y: penalised(backend, damping, x, y), directions)
        if isinstance(damping, dict)
        else tuple(tuple(damping * x for x in row) for row in products),
    )


def _of_all_shards(
    backend: Backend, linearization: CheckedLinearization, rows: Rows
) -> Rows:
    """Return the mean over shards of a symmetric matrix, in one exchange."""
    n = len(rows)
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    mean = linearization.mean_of_shards(
        backend.xp.stack([rows[i][j] for i, j in pairs])
    )
    found = {pair: mean[place] for place, pair in enumerate(pairs)}
    return tuple(tuple(found[min(i, j), max(i, j)] for j in range(n)) for i in range(n))


def _rows(product: Callable[..., Array], vectors: Sequence[Named]) -> Rows:
    """Return the products of all pairs of some vectors."""
    return tuple(tuple(product(x, y) for y in vectors) for x in vectors)


def _quotient(backend: Backend, x: Array, y: Array) -> Array:
    """Return ``x / y``, or zero where `y` is not positive."""
    xp = backend.xp
    positive = y > 0
    safe = xp.where(positive, y, xp.ones_like(y))
    return xp.where(positive, x / safe, xp.zeros_like(x))
