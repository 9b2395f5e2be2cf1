"""The block that approximates a layer's Fisher."""

from typing import Any

from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks import (
    BiasDiagonalFB,
    BiasFullFB,
    BilinearKFACFB,
    ConvDiagonalFB,
    ConvKFCBasicFB,
    EmbeddingKFACFB,
    FisherBlock,
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
    TransposedConvKFCBasicFB,
)
from kfac_core.reference.bias import Bias
from kfac_core.reference.bilinear import Bilinear
from kfac_core.reference.convolution import Conv2D
from kfac_core.reference.dense import Dense, Embedding
from kfac_core.reference.layer import Layer
from kfac_core.reference.transposed_convolution import ConvTranspose


def block_for(layer: Layer, **options: Any) -> FisherBlock[Any]:
    """Return the block of a layer with parameters: Kronecker-factored where one is.

    Args:
        layer: The layer.
        **options: Fields of the block, such as ``damping_type``.

    Returns:
        Its block. That of an embedding counts repeated ids as the layer sums them,
        unless the options say otherwise.

    Raises:
        ArgumentError: If the layer has no parameters.

    Example:
        >>> from kfac_core.reference import Dense
        >>> block_for(Dense(4, 3), damping_type="exact").damping_type
        'exact'
    """
    if isinstance(layer, Dense):
        return FullyConnectedKFACBasicFB(
            layer.input_size, layer.output_size, layer.has_bias, **options
        )
    if isinstance(layer, Embedding):
        repeated = {"repeated_ids": "count_squared", **options}
        return EmbeddingKFACFB(layer.vocab_size, layer.output_size, **repeated)
    if isinstance(layer, Conv2D):
        return ConvKFCBasicFB(
            layer.filter_shape,
            layer.padding,
            strides=layer.strides,
            has_bias=layer.has_bias,
            **options,
        )
    if isinstance(layer, ConvTranspose):
        return TransposedConvKFCBasicFB(
            layer.filter_shape,
            layer.padding,
            layer.strides,
            layer.output_padding,
            layer.dilation,
            layer.num_groups,
            has_bias=layer.has_bias,
            mirrored=layer.mirrored,
            **options,
        )
    if isinstance(layer, Bilinear):
        return BilinearKFACFB(
            layer.first_size,
            layer.second_size,
            layer.output_size,
            layer.has_bias,
            **options,
        )
    if isinstance(layer, Bias):
        return BiasFullFB(layer.shape, **options)
    msg = f"{layer.label} has no parameters; expected Dense, Conv2D or Embedding"
    raise ArgumentError(msg)


def diagonal_block_for(
    layer: Layer, **options: Any
) -> FullyConnectedDiagonalFB | ConvDiagonalFB | BiasDiagonalFB:
    """Return the diagonal block of a layer with parameters.

    Args:
        layer: The layer.
        **options: Fields of the block.

    Returns:
        Its block.

    Raises:
        ArgumentError: If there is none for the layer.
    """
    if isinstance(layer, Dense):
        return FullyConnectedDiagonalFB(
            layer.input_size, layer.output_size, layer.has_bias, **options
        )
    if isinstance(layer, Conv2D):
        return ConvDiagonalFB(
            layer.filter_shape,
            layer.strides,
            layer.padding,
            has_bias=layer.has_bias,
            **options,
        )
    if isinstance(layer, Bias):
        return BiasDiagonalFB(layer.shape, **options)
    msg = f"{layer.label} has no diagonal block; expected Dense, Conv2D or Bias"
    raise ArgumentError(msg)
