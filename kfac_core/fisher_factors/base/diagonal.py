"""`DiagonalFactor`: a factor whose statistic is a diagonal, and nothing more."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.forms.diagonal import Diagonal


@dataclass(frozen=True, kw_only=True)
class DiagonalFactor(FisherFactor):
    """Abstract base of the factors that compute a diagonal, in any shape.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import DiagonalKroneckerFactor
        >>> factor: DiagonalFactor = DiagonalKroneckerFactor(2, matpowers=(-1.0,))
        >>> x = np.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> state = factor.update_cov(factor.init(x), x, ema_decay=0.0)
        >>> factor.get_cov_var(state)  # what is stored: the mean of squares
        array([ 5., 10.])
        >>> state = factor.update_inverses(state, damping=3.0)
        >>> factor.left_multiply_matpower(state, np.ones(2), -1)  # 1 / 8, 1 / 13
        array([0.125     , 0.07692308])
    """

    form: Form = Diagonal()

    forms: ClassVar[tuple[type[Form], ...]] = (Diagonal,)

    @property
    def dimension(self) -> int:
        """Number of entries of the diagonal."""
        return prod(self.cov_shape)
