"""`Layer`: what the conversion of a layer's factors depends on, besides its data."""

import math
from typing import Any, NamedTuple

from kfac_core.errors import UnsupportedError
from kfac_core.fisher_blocks import (
    EmbeddingKFACFB,
    EmbeddingKFACMultiIndepFB,
    ForwardOnlyFB,
    FullyConnectedKFACBasicFB,
    FullyConnectedMultiIndepFB,
    KFACReduceFB,
    KroneckerProductFB,
)
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.presets.scaling import Kind


class Layer(NamedTuple):
    """What the conversion of a layer's factors depends on, besides its data.

    Attributes:
        kind: Whether it acts once in a case, at tokens, at locations, or is pooled.
        places: Number of places of the kernel; 1 without a kernel.
        channels: Number of inputs at each place.
        has_bias: Whether it has a bias.
        label: Name of the layer, for messages.
        is_forward_only: Whether ``G`` is the identity, as in a `ForwardOnlyFB`.

    Example:
        >>> from kfac_core import ConvolutionGeometry
        >>> from kfac_core.fisher_blocks import ConvKFCBasicFB
        >>> geometry = ConvolutionGeometry((3, 3, 4, 8), padding="SAME")
        >>> layer = layer_of(ConvKFCBasicFB(geometry))
        >>> layer.kind, layer.places, layer.channels
        ('images', 9, 4)
    """

    kind: Kind
    places: int
    channels: int
    has_bias: bool
    label: str
    is_forward_only: bool = False


def layer_of(block: KroneckerProductFB | ForwardOnlyFB) -> Layer:
    """Return what the conversion of a block's factors depends on.

    Raises:
        UnsupportedError: If other libraries have no such block.

    Example:
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> layer = layer_of(FullyConnectedKFACBasicFB(3, 2, True, name="dense"))
        >>> layer.kind, layer.channels, layer.has_bias
        ('linear', 3, True)
    """
    if isinstance(block, ForwardOnlyFB):
        return layer_of(block._product)._replace(is_forward_only=True)
    kind: Kind
    own: Any = block
    if isinstance(block, KFACReduceFB):
        kind, own = "reduce", block.block
    elif isinstance(block, ConvKFCBasicFB):
        kind = "images"
    elif isinstance(block, FullyConnectedMultiIndepFB | EmbeddingKFACMultiIndepFB):
        kind = "tokens"
    elif isinstance(block, FullyConnectedKFACBasicFB | EmbeddingKFACFB):
        kind = "linear"
    else:
        msg = (
            f"{getattr(block, 'label', 'presets')}: block is a {type(block).__name__},"
            " expected one of a linear layer, a convolution or an embedding, shared or"
            " not; other libraries have no such block"
        )
        raise UnsupportedError(msg)
    has_bias = getattr(own, "has_bias", False)
    geometry = getattr(own, "geometry", None)
    places = 1 if geometry is None else math.prod(geometry.shape[:-2])
    channels = (block.input_factor.dimension - has_bias) // places
    return Layer(kind, places, channels, has_bias, block.label)
