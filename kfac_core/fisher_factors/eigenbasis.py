"""The eigenvectors and eigenvalues of a factor, as small as its form allows."""

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.linalg.spectrum import Eigenbasis, with_zeros
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
    cov = moving_average.value(backend, state.cov, factor.label)
    return factor.form.eigenbasis(backend, cov, factor)


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
    return factor.form.kept_basis(backend, eigen, factor)


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
    return with_zeros(backend, basis.values, missing)
