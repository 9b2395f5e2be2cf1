"""The eigenvectors and eigenvalues of a factor, as small as its form allows."""

from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.messages import not_decomposed
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.linalg.block_diagonal import BlockDiagonalOperator
from kfac_core.linalg.low_rank import LowRankOperator
from kfac_core.linalg.operators import DiagonalOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.retry import eigendecomposition
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.typing import Array


def eigenbasis(
    backend: Backend, factor: FisherFactor, state: FactorState
) -> Eigenbasis:
    """Return the eigenbasis of the current estimate, undamped.

    If a factor stands for a matrix that is too large to store, nothing of that size is
    made: a diagonal has the standard basis, blocks have one basis each, and ``r`` rows
    have ``r`` vectors, all other eigenvalues being zero.

    Args:
        backend: Backend of the state.
        factor: The factor.
        state: State of the factor.

    Returns:
        Eigenvalues, clipped at zero, and eigenvectors; stacks for a factor of groups.

    Raises:
        EigendecompositionError: If the library finds none, not even in float64.
    """
    label = factor.label
    operator = factor.get_cov_as_linear_operator(state)
    if isinstance(operator, DiagonalOperator):
        return Eigenbasis(operator.diagonal)
    if isinstance(operator, BlockDiagonalOperator):
        parts = [decomposed(backend, label, block) for block in operator.blocks]
        values = backend.xp.concat([part.values for part in parts])
        return Eigenbasis(values, tuple(part.vectors for part in parts))
    if isinstance(operator, LowRankOperator):
        rows = operator.rows
        if rows.shape[0] < rows.shape[1]:
            found = decomposed(backend, label, backend.gram(rows.mT))
            vectors = _of_rows(backend, rows, found)
            return Eigenbasis(found.values, (vectors,))
    values, vectors = factor.get_eigendecomp(state)
    return Eigenbasis(values, (vectors,))


def stored_basis(
    backend: Backend, factor: FisherFactor, state: FactorState
) -> Eigenbasis:
    """Return the eigenbasis that the last `update_inverses` stored.

    Args:
        backend: Backend of the state.
        factor: A factor that stores its eigendecomposition.
        state: State of the factor.

    Returns:
        Eigenvalues and eigenvectors; zeros where nothing is computed yet.
    """
    (eigen,) = state.derived.eigendecompositions
    operator = factor._operator(backend, eigen.vectors)
    if isinstance(operator, DiagonalOperator):
        return Eigenbasis(eigen.values)
    if isinstance(operator, BlockDiagonalOperator):
        return Eigenbasis(eigen.values, operator.blocks)
    return Eigenbasis(eigen.values, (eigen.vectors,))


def eigenvalues(backend: Backend, factor: FisherFactor, state: FactorState) -> Array:
    """Return the eigenvalues of the current estimate, with all zeros.

    Args:
        backend: Backend of the state.
        factor: The factor.
        state: State of the factor.

    Returns:
        ``[n]``, in any order; for a factor of groups ``[groups, n]``.

    Raises:
        EigendecompositionError: If the library finds none, not even in float64.
    """
    basis = eigenbasis(backend, factor, state)
    missing = basis.dimension - basis.values.shape[-1]
    if not missing:
        return basis.values
    device = backend.creation_device(basis.values)
    zeros = backend.xp.zeros(missing, dtype=basis.values.dtype, device=device)
    values: Array = backend.xp.concat([zeros, basis.values])
    return values


def decomposed(backend: Backend, label: str, matrix: Array) -> Eigendecomposition:
    """Return an eigendecomposition, clipped at zero.

    Args:
        backend: Backend of `matrix`.
        label: Name of the factor or block, for the message.
        matrix: ``[n, n]``.

    Returns:
        The eigendecomposition.

    Raises:
        not_decomposed: If the library finds none, not even in float64.
    """
    found, retry = eigendecomposition(backend, matrix)
    if retry is None:
        return found
    raise not_decomposed(backend, label, matrix, retry)


def _of_rows(backend: Backend, rows: Array, found: Eigendecomposition) -> Array:
    """Return the eigenvectors of ``U' U``, ``[n, r]``, from those of ``U U'``.

    They are ``U' v / sqrt(s)``, and zero where the eigenvalue is no more than the
    rounding of the others: the matrix has no such direction.
    """
    xp, values = backend.xp, found.values
    noise = xp.max(values) * (rows.shape[0] * float(xp.finfo(values.dtype).eps))
    is_there = values > noise
    divisor = xp.sqrt(xp.where(is_there, values, xp.ones_like(values)))
    scale = xp.where(is_there, 1 / divisor, xp.zeros_like(values))
    return backend.matmul(rows.mT, found.vectors) * scale[None, :]
