"""`PowersFactor`: a factor whose powers alone have the structure of its matrix."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, NotRegisteredError
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.linalg.operators import FullMatrixOperator, LinearOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True, kw_only=True)
class PowersFactor(FisherFactor):
    """Abstract base of the factors that serve powers alone.

    Neither Cholesky factors nor eigenvectors have the structure of the matrix. They
    would be as large as the dense matrix, which these factors exist to avoid.
    """

    structure: ClassVar[str]
    """What the matrix is, for messages."""

    def __post_init__(self) -> None:
        """Check that nothing but powers is to be served.

        Raises:
            ArgumentError: If anything else is.
        """
        super().__post_init__()
        if self.cholesky or self.cholesky_inverse or self.eigendecomposition:
            msg = (
                f"{self.label}: {self.structure} serves powers alone, no Cholesky"
                " factor and no stored eigendecomposition (which damping_type 'exact'"
                " needs); register the power 1/2 or -1/2 instead"
            )
            raise ArgumentError(msg)

    def get_cov_as_linear_operator(self, state: FactorState) -> LinearOperator:
        """Return the estimated matrix as an operator."""
        backend = self._backend(state)
        stored = moving_average.value(backend, state.cov, self.label)
        return self._operator(backend, stored)

    def get_eigendecomp(self, state: FactorState) -> Eigendecomposition:
        """Return the eigendecomposition of the current estimate, dense.

        Args:
            state: The state.

        Returns:
            Eigenvalues ``[n]``, ascending, clipped at zero; eigenvectors ``[n, n]``.
        """
        return self._decomposed(self._backend(state), self.get_cov(state))

    def get_eigenvectors(self, state: FactorState) -> FullMatrixOperator:
        """Raise: no eigendecomposition is stored; see `get_eigendecomp`."""
        raise self._unserved()

    @abstractmethod
    def _powers(
        self, backend: Backend, cov: Array, wanted: Sequence[tuple[float, Array]]
    ) -> tuple[Array, ...]:
        """Return damped powers as they are stored, for exponents and dampings."""

    def _derive(
        self, backend: Backend, cov: Array, dampings: Mapping[DampingId, Array]
    ) -> Derived:
        wanted = [(exp, dampings[key]) for exp, key in self.stored_matpowers]
        return Derived(
            dampings=tuple(dampings.values()),
            matpowers=self._powers(backend, cov, wanted),
            choleskys=(),
            cholesky_inverses=(),
            eigendecompositions=(),
        )

    def _empty_eigendecomposition(
        self, backend: Backend, like: Array
    ) -> Eigendecomposition:
        raise self._unserved()

    def _unserved(self) -> NotRegisteredError:
        return self._not_registered("damping", "eigendecomposition")
