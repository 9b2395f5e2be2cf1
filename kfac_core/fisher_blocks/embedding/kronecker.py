"""The block of an embedding."""

from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core.fisher_blocks.embedding.rows import EmbeddingRowsFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.side import form_of_side
from kfac_core.fisher_factors import (
    EmbeddingInputKroneckerFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.linalg.layouts import DenseLayout
from kfac_core.statistics.ids import RepeatedIds
from kfac_core.typing import DTypeName, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class EmbeddingKFACFB(EmbeddingRowsFB):
    """K-FAC of an embedding: of a fully connected layer with a diagonal input factor.

    The diagonal form loses nothing where every case has one id. The layer has no bias.
    Unlike in ``tf.contrib.kfac``, both factors and ``pi`` are snapshots of one
    `update_inverses`.

    Attributes:
        vocab_size: Number of ids, rows of the parameters.
        output_size: Length of an embedding, columns of the parameters.
        dtype: Dtype of the statistics of ids; by default that of `init`'s array.
        repeated_ids: How an id that is repeated within a case counts; see
            `kfac_core.fisher_factors.EmbeddingInputKroneckerFactor`.
        diagonal_approx_for_output: Whether to keep the diagonal of ``G`` alone.
        output_max_rows: As in `FullyConnectedKFACBasicFB`.
        output_blocks: As in `FullyConnectedKFACBasicFB`.
        layout: How the weights lie: ``"in_out"``, ``[vocab_size, output_size]``, as in
            every framework; or ``"out_in"``, the transpose.
        padding_id: Id that stands for no id; see
            `kfac_core.fisher_factors.EmbeddingInputKroneckerFactor`. A case whose ids
            are all padding has weight zero.
        negative_ids_are_padding: Whether ids below zero stand for no id.

    Example:
        >>> import numpy as np
        >>> block = EmbeddingKFACFB(vocab_size=5, output_size=2)
        >>> ids = np.asarray([0, 2, 2, 3])
        >>> g = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
        >>> state = block.update_covs(block.init(like=g), ids, g, ema_decay=0.95)
        >>> state = block.update_inverses(state, damping=0.2)
        >>> gradient = np.arange(10.0).reshape(5, 2)
        >>> block.multiply_inverse(state, gradient)[0].round(6)
        array([-0.150659,  1.506591])
    """

    inputs_name: ClassVar[str] = "input_ids"
    data_names: ClassVar[str] = "state, input_ids, outputs_grads"

    vocab_size: int
    output_size: int
    dtype: DTypeName | None = None
    repeated_ids: RepeatedIds = "n_hot"
    diagonal_approx_for_output: bool = False
    output_max_rows: int | None = field(default=None, kw_only=True)
    output_blocks: int = field(default=1, kw_only=True)
    layout: DenseLayout = field(default="in_out", kw_only=True)
    padding_id: int | None = field(default=None, kw_only=True)
    negative_ids_are_padding: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Make the factors, once."""
        super().__post_init__()
        self._set_dense_layout(
            self.layout, self.vocab_size, self.output_size, self.label
        )
        self._set_factors(
            EmbeddingInputKroneckerFactor(
                self.vocab_size,
                self.dtype,
                self.repeated_ids,
                padding_id=self.padding_id,
                negative_ids_are_padding=self.negative_ids_are_padding,
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
        input_ids: Towers,
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
            input_ids: Integers in ``[0, vocab_size)``, ``[batch]`` or ``[batch, m]``
                for ``m`` ids a case; or a tuple of these (towers).
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
            DTypeError: If ids are not integers, or gradients not real.
            NotFiniteError: If gradients hold NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If an id, the decay, a weight or `num_cases` is out of range.
        """
        return self._update_factors(
            state, input_ids, outputs_grads, ema_decay, ema_weight, weights, num_cases
        )
