"""What theorems compute with a block, each from data to numbers, as one program."""

from typing import Any

from kfac_core.fisher_blocks import FisherBlock, ForwardOnlyFB
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.typing import Array, Params, Scalar

Data = tuple[Any, Any]
"""Inputs of a layer, and its output gradients: what `FisherBlock.update_covs` takes."""


def fitted(block: FisherBlock[Any], data: Data) -> Any:
    """Return the state after one batch."""
    inputs, gradients = data
    like = first_of(gradients)
    return block.update_covs(block.init(like), inputs, gradients, ema_decay=0.0)


def inverted(block: FisherBlock[Any], data: Data, damping: Scalar) -> Any:
    """Return the state after one batch and its inverses."""
    return block.update_inverses(fitted(block, data), damping)


def dense_and_moments(
    block: KroneckerProductFB, data: Data
) -> tuple[Array, tuple[Array, Array]]:
    """Return the block's matrix and its two factors."""
    state = fitted(block, data)
    return block.full_fisher_block(state), factors_of(block, state)


def dense(block: FisherBlock[Any], data: Data) -> Array:
    """Return the block's matrix."""
    return block.full_fisher_block(fitted(block, data))


def dense_of_inputs(block: ForwardOnlyFB, inputs: Array) -> Array:
    """Return the matrix of a block that sees no gradients."""
    state = block.update_covs(block.init(inputs), inputs, ema_decay=0.0)
    return block.full_fisher_block(state)


def moments(block: KroneckerProductFB, data: Data) -> tuple[Array, Array]:
    """Return the two factors ``A`` and ``G`` of a Kronecker product."""
    return factors_of(block, fitted(block, data))


def factors_of(block: KroneckerProductFB, state: Any) -> tuple[Array, Array]:
    """Return the two factors of a state."""
    return (
        block.input_factor.get_cov(state.input_factor),
        block.output_factor.get_cov(state.output_factor),
    )


def damped_factors(
    block: KroneckerProductFB, data: Data, damping: Scalar
) -> tuple[Array, Array]:
    """Return the two factors, as damping makes them."""
    state = inverted(block, data, damping)
    return (
        block.input_factor.get_matpower(state.input_factor, 1.0).to_dense(),
        block.output_factor.get_matpower(state.output_factor, 1.0).to_dense(),
    )


def multiplied(
    block: FisherBlock[Any], data: Data, damping: Scalar, vector: Params
) -> Params:
    """Return the damped block times a vector."""
    return block.multiply(inverted(block, data, damping), vector)


def solved(
    block: FisherBlock[Any], data: Data, damping: Scalar, vector: Params
) -> Params:
    """Return the inverse of the damped block times a vector."""
    return block.multiply_inverse(inverted(block, data, damping), vector)


def first_of(gradients: Any) -> Array:
    """Return the first array of sources and towers."""
    while isinstance(gradients, tuple | list):
        gradients = gradients[0]
    found: Array = gradients
    return found
