"""Specs that compute as ``tf.contrib.kfac`` does, where `kfac_core` does otherwise.

The classes of `kfac_core.contrib` make them where an option asks for it.
"""

from dataclasses import dataclass
from typing import ClassVar

from kfac_core import fisher_blocks, fisher_factors
from kfac_core.backend import Backend
from kfac_core.fisher_factors.shared.lagged_state import DenseWithLag
from kfac_core.linalg.series import Option1Quants
from kfac_core.typing import Array


@dataclass(frozen=True)
class CovariancesSUAKroneckerFactor(fisher_factors.ConvInputSUAKroneckerFactor):
    """Averages the covariance of each batch, about the mean of that batch alone."""

    merges: ClassVar[bool] = False


@dataclass(frozen=True)
class DenseWithSignlessLag(DenseWithLag):
    """Option 1 takes negative correlation for positive: eigenvalues lose their sign."""

    def option1(self, backend: Backend, root: Array, lagged: Array) -> Option1Quants:
        """Return what option 1 needs, with absolute eigenvalues."""
        quants = super().option1(backend, root, lagged)
        return quants._replace(psi=backend.xp.abs(quants.psi))


@dataclass(frozen=True)
class SignlessSeriesFB(fisher_blocks.FullyConnectedSeriesFB):
    """A series whose option 1 cannot tell uses that alternate from uses that repeat."""

    lag_form: ClassVar[DenseWithLag] = DenseWithSignlessLag()
