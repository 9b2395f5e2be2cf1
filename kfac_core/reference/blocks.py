"""The block that approximates a layer's Fisher."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

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
from kfac_core.reference.checked import check_class
from kfac_core.reference.convolution import Conv2D
from kfac_core.reference.dense import Dense, Embedding
from kfac_core.reference.layer import Layer
from kfac_core.reference.transposed_convolution import ConvTranspose

B = TypeVar("B", bound=FisherBlock[Any])


def block_for(layer: Layer, **options: Any) -> FisherBlock[Any]:
    """Return the block of a layer with parameters, Kronecker-factored if there is one.

    Args:
        layer: The layer.
        **options: Fields of the block, such as ``damping_type``.

    Returns:
        The block. The block of an embedding counts repeated ids as the layer sums them,
        unless the options say otherwise.

    Raises:
        ArgumentError: If the layer has no parameters, or an option is not a field.

    Example:
        >>> from kfac_core.reference import Dense
        >>> block_for(Dense(4, 3), damping_type="exact").damping_type
        'exact'
    """
    check_class(layer, Layer, "layer", "block_for")
    if isinstance(layer, Dense):
        return _made(FullyConnectedKFACBasicFB, options, **_dense(layer))
    if isinstance(layer, Embedding):
        repeated = {"repeated_ids": "count_squared", **options}
        sizes = {"vocab_size": layer.vocab_size, "output_size": layer.output_size}
        return _made(EmbeddingKFACFB, repeated, **sizes)
    if isinstance(layer, Conv2D):
        return _made(ConvKFCBasicFB, options, **_convolution(layer))
    if isinstance(layer, ConvTranspose):
        return _made(
            TransposedConvKFCBasicFB,
            options,
            **_convolution(layer),
            output_padding=layer.output_padding,
            mirrored=layer.mirrored,
        )
    if isinstance(layer, Bilinear):
        return _made(
            BilinearKFACFB,
            options,
            first_size=layer.first_size,
            second_size=layer.second_size,
            output_size=layer.output_size,
            has_bias=layer.has_bias,
        )
    if isinstance(layer, Bias):
        return _made(BiasFullFB, options, shape=layer.shape)
    msg = f"layer: {layer.label} has no parameters; expected Dense, Conv2D or Embedding"
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
        ArgumentError: If the layer has no such block, or an option is not a field.
    """
    check_class(layer, Layer, "layer", "diagonal_block_for")
    if isinstance(layer, Dense):
        return _made(FullyConnectedDiagonalFB, options, **_dense(layer))
    if isinstance(layer, Conv2D):
        return _made(ConvDiagonalFB, options, **_convolution(layer))
    if isinstance(layer, Bias):
        return _made(BiasDiagonalFB, options, shape=layer.shape)
    msg = f"layer: {layer.label} has no diagonal block; expected Dense, Conv2D or Bias"
    raise ArgumentError(msg)


def _dense(layer: Dense) -> dict[str, Any]:
    """Return the fields of a dense layer's block."""
    sizes = {"input_size": layer.input_size, "output_size": layer.output_size}
    return sizes | {"has_bias": layer.has_bias}


def _convolution(layer: Conv2D | ConvTranspose) -> dict[str, Any]:
    """Return the fields of a convolution's block that all kinds have."""
    return {"geometry": layer.geometry, "has_bias": layer.has_bias}


def _made(kind: type[B], options: Mapping[str, Any], **made: Any) -> B:
    """Return a block of some fields and of options.

    Raises:
        ArgumentError: If an option is not a field, or is made already.
    """
    free = [f.name for f in fields(kind) if f.init and f.name not in made]
    if unknown := [option for option in options if option not in free]:
        msg = (
            f"{', '.join(map(repr, unknown))} cannot be options of {kind.__name__},"
            f" expected some of {', '.join(free)}"
        )
        raise ArgumentError(msg)
    return kind(**made, **options)
