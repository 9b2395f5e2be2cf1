"""Blocks from the square of the batch's summed gradient; see the naive factors."""

from dataclasses import dataclass

from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_factors import NaiveDiagonalFactor, NaiveFullFactor
from kfac_core.typing import Scalar, Sources


@dataclass(frozen=True)
class NaiveFullFB(SingleFactorFB):
    """The whole Fisher of some parameters, from their batch-summed gradient.

    Unbiased for targets sampled from the model, and not otherwise; see
    `kfac_core.fisher_factors.naive`.

    Attributes:
        size: Number of entries of the parameters.

    Example:
        >>> import numpy as np
        >>> block = NaiveFullFB(size=2)
        >>> gradient = np.asarray([1.0, 2.0])
        >>> state = block.init(like=gradient)
        >>> state = block.update_covs(state, gradient, batch_size=2, ema_decay=0.95)
        >>> state = block.update_inverses(state, damping=1.0)
        >>> block.multiply_inverse(state, gradient).round(6)
        array([0.285714, 0.571429])
    """

    size: int

    def __post_init__(self) -> None:
        """Make the factor, once."""
        super().__post_init__()
        self._set_factor(NaiveFullFactor(self.size, name=self.label, **self._served()))

    def update_covs(
        self,
        state: SingleFactorState,
        params_grads: Sources,
        batch_size: Scalar,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Arguments and errors are those of `NaiveFullFactor.update_cov`.

        Returns:
            The new state.
        """
        factor = self.factor.update_cov(
            self._own(state).factor, params_grads, batch_size, ema_decay, ema_weight
        )
        return state._replace(factor=factor)


@dataclass(frozen=True)
class NaiveDiagonalFB(SingleFactorFB):
    """The diagonal of the Fisher of some parameters, from their summed gradient.

    Attributes:
        size: Number of entries of the parameters.

    Example:
        >>> import numpy as np
        >>> block = NaiveDiagonalFB(size=2)
        >>> gradient = np.asarray([2.0, 4.0])
        >>> state = block.init(like=gradient)
        >>> state = block.update_covs(state, gradient, batch_size=4, ema_decay=0.95)
        >>> state = block.update_inverses(state, damping=1.0)
        >>> block.multiply_inverse(state, gradient)  # 2 / (1 + 1), 4 / (4 + 1)
        array([1. , 0.8])
    """

    size: int

    def __post_init__(self) -> None:
        """Make the factor, once."""
        super().__post_init__()
        self._set_factor(
            NaiveDiagonalFactor(self.size, name=self.label, **self._served())
        )

    def update_covs(
        self,
        state: SingleFactorState,
        params_grads: Sources,
        batch_size: Scalar,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Arguments and errors are those of `NaiveFullFactor.update_cov`.

        Returns:
            The new state.
        """
        factor = self.factor.update_cov(
            self._own(state).factor, params_grads, batch_size, ema_decay, ema_weight
        )
        return state._replace(factor=factor)
