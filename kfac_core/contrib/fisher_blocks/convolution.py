"""The Kronecker block of convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.arguments.arrays import backend_for
from kfac_core.contrib.block_holder import KroneckerProductFB
from kfac_core.contrib.forms import flag
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.linalg.parameters import tensors_of
from kfac_core.statistics.patches.geometry import Padding
from kfac_core.typing import Array, Params


class ConvKFCBasicFB(KroneckerProductFB):
    """`kfac_core.fisher_blocks.ConvKFCBasicFB` as of r1.10 and since.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The layer's weights, or weights and bias; only their shapes are used.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        strides: In the form that `extract_patches_fn` implies.
        dilation_rate: In the form that `extract_patches_fn` implies.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        extract_patches_fn: Name of a patch extractor of ``tf.contrib.kfac``.
        sub_sample_inputs: Whether each update draws some of the cases; its op then
            takes a ``key``.
        sub_sample_patches: Whether each update draws some of the patches; its op then
            takes a ``key``.
        use_sua_approx_for_input_factor: Whether pixels are taken to be spatially
            uncorrelated.
        patch_mask: ``[..kernel.., in_channels]``, what each patch is multiplied by.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.ones((1, 4, 4, 1)), np.ones((1, 2, 2, 1))
        >>> block = ConvKFCBasicFB(
        ...     None, np.zeros((2, 2, 1, 1)), padding="VALID", strides=[1, 2, 2, 1]
        ... )
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.input_factor.get_cov().shape  # of patches of 2 by 2 pixels
        (4, 4)
        >>> block.full_fisher_block()[0, 0]  # four locations, each 1 times 1
        np.float64(4.0)
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
        sub_sample_inputs: bool | None = None,
        sub_sample_patches: bool | None = None,
        use_sua_approx_for_input_factor: bool = False,
        patch_mask: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        shape, has_bias = filter_of(params, self._label)
        self._arguments: dict[str, Any] = {
            "geometry": geometry_for(
                shape,
                padding,
                strides,
                dilation_rate,
                data_format,
                extract_patches_fn,
                self._label,
            ),
            "has_bias": has_bias,
            "sub_sample_inputs": flag(sub_sample_inputs),
            "sub_sample_patches": flag(sub_sample_patches),
            "use_sua_approx_for_input_factor": use_sua_approx_for_input_factor,
            "patch_mask": patch_mask,
        }

    def _make_spec(self, *data: Any) -> core.ConvKFCBasicFB:
        return core.ConvKFCBasicFB(**self._arguments, **self._options)


def filter_of(params: Params, label: str) -> tuple[tuple[int, ...], bool]:
    """Return what a convolution's parameters say: the filter's shape, and a bias."""
    tensors: tuple[Array, ...] = tensors_of(params)
    backend_for(label, "params", *tensors)
    return tuple(tensors[0].shape), len(tensors) > 1
