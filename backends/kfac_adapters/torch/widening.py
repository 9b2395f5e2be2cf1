"""Statistics of a layer of one use for each case as those of one of any number.

They are the same means: an expert that every case of a shard reaches has as many rows
as there are cases, and one that some reach has rows of its own.
"""

from typing import Any

import torch

from kfac_core.fisher_blocks import (
    ConvKFCBasicMultiIndepFB,
    EmbeddingKFACMultiIndepFB,
    FisherBlock,
    FullyConnectedMultiIndepFB,
    GroupedConvKFCBasicMultiIndepFB,
)
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.fisher_factors.shared.lagged_state import DenseWithLag
from kfac_core.moving_average import MovingAverage
from kfac_core.state import kept

_WIDE = (
    FullyConnectedMultiIndepFB,
    ConvKFCBasicMultiIndepFB,
    EmbeddingKFACMultiIndepFB,
    GroupedConvKFCBasicMultiIndepFB,
)


def is_wider(block: FisherBlock[Any], other: FisherBlock[Any]) -> bool:
    """Return whether a block takes any number of uses, and another of it one use.

    Args:
        block: The block that may be the wider.
        other: The other.

    Returns:
        Whether `widened` can make the state of the first from that of the second.
    """
    if not isinstance(block, KroneckerProductFB) or type(block) not in _WIDE:
        return False
    if not isinstance(other, KroneckerProductFB):
        return False
    several = getattr(block, "num_uses", 1), getattr(other, "num_uses", 1)
    pairs = zip(_sides(block), _sides(other), strict=True)
    return (
        several == (None, 1)
        and block.name == other.name
        and block.damping_type == other.damping_type
        and all(
            own.cov_shape == like.cov_shape
            and (own.form == like.form or _is_dense(own.form, like.form))
            for own, like in pairs
        )
    )


def widened(
    block: FisherBlock[Any],
    other: FisherBlock[Any],
    state: KroneckerState,
    like: torch.Tensor,
) -> KroneckerState:
    """Return the state of the wider block, with the statistics of the other.

    Args:
        block: The wider block.
        other: The block of the state.
        state: The state; its arrays are shared.
        like: Gives dtype and device.

    Returns:
        The state, without inverses.
    """
    made: KroneckerState = block.init(like)
    a, g = made.input_factor, made.output_factor
    uses = state.uses
    if not other.is_repeated:
        number = state.weights.weight
        uses = MovingAverage(kept(number), kept(number + 0))
    return made._replace(
        input_factor=a._replace(cov=state.input_factor.cov),
        output_factor=g._replace(cov=state.output_factor.cov),
        uses=uses,
        weights=state.weights,
    )


def _sides(block: Any) -> tuple[Any, Any]:
    return block.input_factor, block.output_factor


def _is_dense(form: Any, other: Any) -> bool:
    return type(form) is DenseWithLag and type(other) is Dense
