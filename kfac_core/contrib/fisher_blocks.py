"""``tf.contrib.kfac.fisher_blocks``: the original's constructors.

Keyword options beyond the original's (`name`, `damping_type`,
`normalize_damping_power`, `zero_debias`, `init_covariances_at_zero`, and for embeddings
`repeated_ids`) are fields of the spec.
"""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import (
    FisherBlock,
    KroneckerProductFB,
    LayerBlock,
    NaiveBlock,
)
from kfac_core.linalg.parameters import num_entries, tensors_of
from kfac_core.statistics.convolution_geometry import Padding
from kfac_core.typing import Array, Params

__all__ = [
    "ConvDiagonalFB",
    "ConvKFCBasicFB",
    "EmbeddingKFACFB",
    "FisherBlock",
    "FullFB",
    "FullyConnectedDiagonalFB",
    "FullyConnectedKFACBasicFB",
    "KroneckerProductFB",
    "NaiveDiagonalFB",
    "NaiveFullFB",
]


class FullyConnectedKFACBasicFB(KroneckerProductFB):
    """`kfac_core.FullyConnectedKFACBasicFB` as in r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        has_bias: Whether the layer has a bias.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> block = FullyConnectedKFACBasicFB(None)
        >>> x, g = np.asarray([[1.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [1.0]])
        >>> block.register_additional_tower(inputs=x, outputs=g)
        >>> block.instantiate_factors([[g]], damping=0.5)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.instantiate_inv_variables()
        >>> for op in block.make_inverse_update_ops():
        ...     op()
        >>> block.multiply_inverse(np.ones((2, 1))).round(3)
        array([[0.5],
               [0.5]])
    """

    def __init__(
        self, layer_collection: Any, has_bias: bool = False, **options: Any
    ) -> None:
        super().__init__(layer_collection, **options)
        self._has_bias = has_bias

    def _make_spec(self, *data: Any) -> core.FullyConnectedKFACBasicFB:
        inputs, gradients = data
        return core.FullyConnectedKFACBasicFB(
            inputs[0].shape[-1],
            gradients[0][0].shape[-1],
            self._has_bias,
            **self._options,
        )


class FullyConnectedDiagonalFB(LayerBlock):
    """`kfac_core.FullyConnectedDiagonalFB` as in r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        has_bias: Whether the layer has a bias.
        **options: Fields of the spec.
    """

    def __init__(
        self, layer_collection: Any, has_bias: bool = False, **options: Any
    ) -> None:
        super().__init__(layer_collection, **options)
        self._has_bias = has_bias

    def _make_spec(self, *data: Any) -> core.FullyConnectedDiagonalFB:
        inputs, gradients = data
        return core.FullyConnectedDiagonalFB(
            inputs[0].shape[-1],
            gradients[0][0].shape[-1],
            self._has_bias,
            **self._options,
        )


class EmbeddingKFACFB(KroneckerProductFB):
    """`kfac_core.EmbeddingKFACFB` as in r1.7.

    Args:
        layer_collection: What the block belongs to; may be None.
        vocab_size: Number of ids.
        **options: Fields of the spec.
    """

    def __init__(self, layer_collection: Any, vocab_size: int, **options: Any) -> None:
        super().__init__(layer_collection, **options)
        self._vocab_size = vocab_size

    def _make_spec(self, *data: Any) -> core.EmbeddingKFACFB:
        _, gradients = data
        return core.EmbeddingKFACFB(
            self._vocab_size, gradients[0][0].shape[-1], **self._options
        )


class ConvKFCBasicFB(KroneckerProductFB):
    """`kfac_core.ConvKFCBasicFB` as in r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The layer's weights, or weights and bias: for their shapes.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        strides: In the form that `extract_patches_fn` implies.
        dilation_rate: Likewise.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        extract_patches_fn: Name of the original's patch extractor.
        **options: Fields of the spec.
    """

    def __init__(
        self,
        layer_collection: Any,
        params: Params,
        padding: Padding,
        strides: Sequence[int] | None = None,
        dilation_rate: Sequence[int] | None = None,
        data_format: str | None = None,
        extract_patches_fn: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._arguments = {
            **_filter_of(params),
            "padding": padding,
            "strides": None if strides is None else tuple(strides),
            "dilation_rate": None if dilation_rate is None else tuple(dilation_rate),
            "data_format": data_format,
            "extract_patches_fn": extract_patches_fn,
        }

    def _make_spec(self, *data: Any) -> core.ConvKFCBasicFB:
        return core.ConvKFCBasicFB(**self._arguments, **self._options)


class ConvDiagonalFB(LayerBlock):
    """`kfac_core.ConvDiagonalFB` as in r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The layer's weights, or weights and bias: for their shapes.
        strides: ``[1, rows, columns, 1]``, or spatial.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        dilations: As `strides`.
        **options: Fields of the spec.
    """

    def __init__(
        self,
        layer_collection: Any,
        params: Params,
        strides: Sequence[int],
        padding: Padding,
        data_format: str | None = None,
        dilations: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._arguments = {
            **_filter_of(params),
            "strides": tuple(strides),
            "padding": padding,
            "data_format": data_format,
            "dilations": None if dilations is None else tuple(dilations),
        }

    def _make_spec(self, *data: Any) -> core.ConvDiagonalFB:
        return core.ConvDiagonalFB(**self._arguments, **self._options)


class NaiveFullFB(NaiveBlock):
    """`kfac_core.NaiveFullFB`; ``FullFB`` until r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The parameters, a tensor or a tuple of these.
        **options: Fields of the spec.
    """

    def _make_spec(self, *data: Any) -> core.NaiveFullFB:
        return core.NaiveFullFB(num_entries(self._params), **self._options)


FullFB = NaiveFullFB


class NaiveDiagonalFB(NaiveBlock):
    """`kfac_core.NaiveDiagonalFB` as in r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The parameters, a tensor or a tuple of these.
        **options: Fields of the spec.
    """

    def _make_spec(self, *data: Any) -> core.NaiveDiagonalFB:
        return core.NaiveDiagonalFB(num_entries(self._params), **self._options)


def _filter_of(params: Params) -> dict[str, Any]:
    """Return what a convolution's parameters say: the filter's shape, and a bias."""
    tensors: tuple[Array, ...] = tensors_of(params)
    return {"filter_shape": tuple(tensors[0].shape), "has_bias": len(tensors) > 1}
