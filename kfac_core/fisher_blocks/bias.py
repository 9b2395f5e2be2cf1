"""Blocks of a bias that stands alone."""

from dataclasses import dataclass
from typing import ClassVar

from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_factors import BiasFactor, Dense, Diagonal, Form
from kfac_core.rows.uses import MultiSources
from kfac_core.typing import Scalar, Weights


@dataclass(frozen=True)
class BiasFB(SingleFactorFB):
    """Abstract base of the blocks of ``y = x + bias``, with broadcasting.

    It is for a bias whose layer has no other parameters (a learned position, a logit
    offset), or whose other parameters have a block of their own. Its data are output
    gradients alone.

    Attributes:
        shape: Shape of the bias, aligned with the outputs at their last axes; an axis
            of size one is broadcast: ``(channels,)``, or ``(channels, 1, 1)`` where
            channels come first.

    Example:
        >>> import numpy as np
        >>> g = np.asarray([[1.0, 2.0]])  # one case: the Fisher of a bias is ``g g'``
        >>> for kind in (BiasFullFB, BiasDiagonalFB):
        ...     block = kind((2,))
        ...     state = block.update_covs(block.init(like=g), g, ema_decay=0.0)
        ...     print(block.full_fisher_block(state).tolist())
        [[1.0, 2.0], [2.0, 4.0]]
        [[1.0, 0.0], [0.0, 4.0]]
    """

    shape: tuple[int, ...]

    factor_form: ClassVar[Form]
    """Form of the factor."""

    takes_inputs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Make the factor, once; errors as in `BiasFactor`."""
        super().__post_init__()
        options = {"name": self.label, **self._served()}
        factor = BiasFactor(self.shape, form=self.factor_form, **options)
        object.__setattr__(self, "shape", factor.shape)
        self._set_factor(factor)

    def update_covs(
        self,
        state: SingleFactorState,
        outputs_grads: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Args:
            state: The state; left as it is.
            outputs_grads: Gradients of the summed loss for the layer's outputs,
                ``[batch, ...]``; or `kfac_core.typing.Uses` of these, one for each time
                that a case adds the bias; or a tuple of such (towers); or a tuple of
                such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or a tuple of these
                (towers): zero for a case that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If the bias cannot be broadcast to an array, or there is no
                case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        factor = self.factor.update_cov(
            self._own(state).factor,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
        )
        return state._replace(factor=factor)


@dataclass(frozen=True)
class BiasFullFB(BiasFB):
    """The whole Fisher of a bias, exact; see `BiasFB`.

    Example:
        >>> import numpy as np
        >>> block = BiasFullFB((2,))
        >>> g = np.asarray([[[1.0, 0.0], [1.0, 1.0]]])  # one case, two positions
        >>> state = block.update_covs(block.init(like=g), g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=1.0)
        >>> block.multiply(state, np.asarray([1.0, 0.0]))
        array([5., 2.])
    """

    factor_form: ClassVar[Form] = Dense()


@dataclass(frozen=True)
class BiasDiagonalFB(BiasFB):
    """The diagonal Fisher of a bias, exact; see `BiasFB`.

    Example:
        >>> import numpy as np
        >>> block = BiasDiagonalFB((2,))
        >>> g = np.asarray([[[1.0, 0.0], [1.0, 1.0]]])  # one case, two positions
        >>> state = block.update_covs(block.init(like=g), g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([4., 1.])
    """

    factor_form: ClassVar[Form] = Diagonal()
