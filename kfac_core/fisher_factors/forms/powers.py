"""`PowersForm`: a form in which powers alone have the structure of the matrix."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.state import Derived
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True)
class PowersForm(Form):
    """Abstract base of the forms that serve powers alone.

    Neither Cholesky factors nor eigenvectors have the structure of the matrix. They
    would be as large as the dense matrix, which these forms exist to avoid.
    """

    structure: ClassVar[str]
    """What the matrix is, for messages."""

    def check(self, factor: FisherFactor) -> None:
        """Check that nothing but powers is to be served.

        Raises:
            ArgumentError: If anything else is.
        """
        if factor.cholesky or factor.cholesky_inverse or factor.eigendecomposition:
            msg = (
                f"{factor.label}: {self.structure} serves powers alone, no Cholesky"
                " factor and no stored eigendecomposition (which damping_type 'exact'"
                " needs); register the power 1/2 or -1/2 instead"
            )
            raise ArgumentError(msg)

    @abstractmethod
    def powers(
        self,
        backend: Backend,
        cov: Array,
        wanted: Sequence[tuple[float, Array]],
        factor: FisherFactor,
    ) -> tuple[Array, ...]:
        """Return damped powers as they are kept, for exponents and dampings."""

    def power(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        exp: float,
        factor: FisherFactor,
    ) -> Array:
        (power,) = self.powers(backend, cov, [(exp, damping)], factor)
        return power

    def derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> Derived:
        wanted = [(exp, dampings[key]) for exp, key in factor.stored_matpowers]
        powers = self.powers(backend, cov, wanted, factor)
        return Derived(tuple(dampings.values()), powers, (), (), ())
