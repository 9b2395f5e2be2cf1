"""`DiagonalFactor`: a factor whose statistic is a diagonal, and nothing more."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.forms.diagonal import Diagonal


@dataclass(frozen=True, kw_only=True)
class DiagonalFactor(FisherFactor):
    """Abstract base of the factors that compute a diagonal, in any shape."""

    form: Form = Diagonal()

    forms: ClassVar[tuple[type[Form], ...]] = (Diagonal,)

    @property
    def dimension(self) -> int:
        """Number of entries of the diagonal."""
        return prod(self.cov_shape)
