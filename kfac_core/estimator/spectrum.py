"""The eigenvalues of a factor's matrix, without eigenvectors."""

from kfac_core.backend import Backend
from kfac_core.fisher_factors import FactorState, FisherFactor
from kfac_core.fisher_factors.base.messages import not_decomposed
from kfac_core.linalg.block_diagonal import BlockDiagonalOperator
from kfac_core.linalg.low_rank import LowRankOperator
from kfac_core.linalg.operators import DiagonalOperator
from kfac_core.linalg.retry import eigendecomposition
from kfac_core.typing import Array


def eigenvalues(backend: Backend, factor: FisherFactor, state: FactorState) -> Array:
    """Return the eigenvalues of the current estimate.

    If a factor stands for a matrix that is too large to store, nothing of that size is
    made.

    Args:
        backend: Backend of the state.
        factor: The factor.
        state: State of the factor.

    Returns:
        ``[n]``, in any order; for a factor of groups ``[groups, n]``.

    Raises:
        EigendecompositionError: If the library finds none, not even in float64.
    """

    def of(matrix: Array) -> Array:
        found, retry = eigendecomposition(backend, matrix)
        if retry is None:
            return found.values
        raise not_decomposed(backend, factor.label, matrix, retry)

    operator = factor.get_cov_as_linear_operator(state)
    if isinstance(operator, DiagonalOperator):
        return operator.diagonal
    parts: list[Array] = []
    if isinstance(operator, BlockDiagonalOperator):
        parts = [of(block) for block in operator.blocks]
    if isinstance(operator, LowRankOperator):
        r, n = operator.rows.shape
        if r < n:
            gram = backend.gram(operator.rows.mT)
            zeros = backend.xp.zeros_like(operator.rows[0, : n - r])
            parts = [zeros, of(gram)]
    if not parts:
        return factor.get_eigendecomp(state).values
    values: Array = backend.xp.concat(parts)
    return values
