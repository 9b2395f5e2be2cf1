"""Blocks of fully connected layers."""

from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.side import form_of_side
from kfac_core.fisher_factors import (
    FullyConnectedDiagonalFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.linalg.layouts import DenseLayout
from kfac_core.typing import Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class FullyConnectedKFACBasicFB(KroneckerProductFB):
    """K-FAC of a fully connected layer: ``F = kron(E[a a'], E[g g'])``.

    Inputs and output gradients are taken to be independent (Martens & Grosse, 2015,
    section 3). Where the matrix of a side would be too large, one of three forms can
    take its place: its latest rows, blocks along its diagonal, or its diagonal.

    Attributes:
        input_size: Length of a row of inputs.
        output_size: Length of a row of outputs.
        has_bias: Whether the layer has a bias: the last row of its parameters' matrix.
        diagonal_approx_for_input: Whether to keep the diagonal of ``A`` alone. A
            diagonal side is a snapshot, as the other one is; ``tf.contrib.kfac``
            evaluates it afresh at every product.
        diagonal_approx_for_output: Whether to keep the diagonal of ``G`` alone.
        input_max_rows: How many of the latest rows of inputs to keep, in place of their
            matrix: see `kfac_core.fisher_factors.LowRank`. It
            serves powers alone, no Cholesky factor and no damping_type "exact".
        output_max_rows: The same for the gradients, all sources together.
        input_blocks: How many blocks to keep along the diagonal of ``A``: see
            `kfac_core.fisher_factors.BlockDiagonal`.
        output_blocks: The same for ``G``.
        layout: How the weights lie: ``"in_out"``, or ``"out_in"`` as PyTorch has them.
            Vectors and products are in this layout; see `kfac_core.linalg.layouts`.

    Example:
        >>> import numpy as np
        >>> block = FullyConnectedKFACBasicFB(2, 2, has_bias=True)
        >>> x = np.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> g = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.95)
        >>> state = block.update_inverses(state, damping=0.1)
        >>> gradient = (np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([5.0, 6.0]))
        >>> weights, bias = block.multiply_inverse(state, gradient)
        >>> bias.round(6)
        array([2.42518 , 3.750387])
    """

    input_size: int
    output_size: int
    has_bias: bool = False
    diagonal_approx_for_input: bool = False
    diagonal_approx_for_output: bool = False
    input_max_rows: int | None = field(default=None, kw_only=True)
    output_max_rows: int | None = field(default=None, kw_only=True)
    input_blocks: int = field(default=1, kw_only=True)
    output_blocks: int = field(default=1, kw_only=True)
    layout: DenseLayout = field(default="in_out", kw_only=True)

    takes_any_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make the factors, once.

        Raises:
            ArgumentError: If a side is asked for in two forms, or in one that does not
                serve what the block does.
        """
        super().__post_init__()
        self._set_dense_layout(
            self.layout, self.input_size, self.output_size, self.label
        )
        self._set_factors(
            FullyConnectedKroneckerFactor(
                self.input_size,
                self.has_bias,
                form=form_of_side(
                    f"{self.label} (input factor)",
                    diagonal=self.diagonal_approx_for_input,
                    max_rows=self.input_max_rows,
                    num_blocks=self.input_blocks,
                ),
                data_name="inputs",
                **self._factor_options("input"),
            ),
            FullyConnectedKroneckerFactor(
                self.output_size,
                form=form_of_side(
                    f"{self.label} (output factor)",
                    diagonal=self.diagonal_approx_for_output,
                    max_rows=self.output_max_rows,
                    num_blocks=self.output_blocks,
                ),
                data_name="outputs_grads",
                **self._factor_options("output"),
            ),
        )

    def update_covs(
        self,
        state: KroneckerState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> KroneckerState:
        """Fold a batch into the statistics of both factors.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, input_size]``, or a tuple of these (towers, weighted by
                their rows).
            outputs_grads: Gradients of the summed loss for the layer's outputs,
                ``[batch, output_size]``; or a tuple of these (towers); or a tuple of
                such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or a tuple of these
                (towers): zero for a case that does not count; None: one each. Inputs
                and gradients may have different weights: see
                `kfac_core.typing.RowWeights`.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, or there
                is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        return self._update_factors(
            state, inputs, outputs_grads, ema_decay, ema_weight, weights, num_cases
        )


@dataclass(frozen=True)
class FullyConnectedDiagonalFB(SingleFactorFB):
    """The exact diagonal of a fully connected layer's Fisher.

    Attributes:
        input_size: Length of a row of inputs.
        output_size: Length of a row of outputs.
        has_bias: Whether the layer has a bias.
        layout: As in `FullyConnectedKFACBasicFB`.

    Example:
        >>> import numpy as np
        >>> block = FullyConnectedDiagonalFB(1, 1)
        >>> x, g = np.asarray([[1.0], [3.0]]), np.asarray([[1.0], [1.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.95)
        >>> state = block.update_inverses(state, damping=3.0)
        >>> block.multiply_inverse(state, np.asarray([[16.0]]))
        array([[2.]])
    """

    input_size: int
    output_size: int
    has_bias: bool = False
    layout: DenseLayout = field(default="in_out", kw_only=True)

    def __post_init__(self) -> None:
        """Make the factor, once."""
        super().__post_init__()
        self._set_dense_layout(
            self.layout, self.input_size, self.output_size, self.label
        )
        self._set_factor(
            FullyConnectedDiagonalFactor(
                self.input_size,
                self.output_size,
                self.has_bias,
                name=self.label,
                **self._served(),
            )
        )

    def update_covs(
        self,
        state: SingleFactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Arguments and errors are those of `FullyConnectedKFACBasicFB.update_covs`.

        Returns:
            The new state.
        """
        factor = self.factor.update_cov(
            self._own(state).factor,
            inputs,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
        )
        return state._replace(factor=factor)
