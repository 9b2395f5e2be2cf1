"""Factors of shared convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import DenseSquareMatrixFactor
from kfac_core.contrib.forms import (
    first_array,
    flag,
    is_channels_first,
    multi_use_sources_of,
    multi_use_towers_of,
)
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.statistics.patches.geometry import Padding


class ConvInputMultiKF(DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.ConvInputMultiKF` as of 2022.

    Args:
        inputs: List over towers, each ``[T * batch, ..spatial.., in_channels]`` or
            ``[T, batch, ...]``, or a list over uses.
        filter_shape: ``[..kernel.., in_channels, out_channels]``.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        num_uses: ``T``, or None where the data say it.
        strides: In the form that `extract_patches_fn` implies.
        dilation_rate: In the form that `extract_patches_fn` implies.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``, of one use.
        extract_patches_fn: Name of a patch extractor of ``tf.contrib.kfac``.
        has_bias: Whether each patch ends in a one.
        sub_sample_inputs: As in `ConvInputKroneckerFactor`.
        sub_sample_patches: As in `ConvInputKroneckerFactor`.
        patch_mask: As in `ConvInputKroneckerFactor`.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> first = np.asarray([1.0, 2.0]).reshape(1, 1, 2, 1)
        >>> factor = ConvInputMultiKF([[first, 2 * first]], (1, 2, 1, 1), "VALID")
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # a mean over two uses
        array([[ 2.5,  5. ],
               [ 5. , 10. ]])
    """

    forms = (multi_use_towers_of,)

    def __init__(
        self,
        inputs: Any,
        filter_shape: Sequence[int],
        padding: Padding,
        num_uses: int | None = None,
        strides: Sequence[int] | None = None,
        dilation_rate: Sequence[int] | None = None,
        data_format: str | None = None,
        extract_patches_fn: str | None = None,
        has_bias: bool = False,
        sub_sample_inputs: bool | None = None,
        sub_sample_patches: bool | None = None,
        patch_mask: Any = None,
        **options: Any,
    ) -> None:
        towers = multi_use_towers_of(inputs)
        geometry = geometry_for(
            filter_shape,
            padding,
            strides,
            dilation_rate,
            data_format,
            extract_patches_fn,
            self._label(options),
        )
        spec = core.ConvInputMultiKF(
            geometry,
            has_bias,
            num_uses,
            sub_sample_inputs=flag(sub_sample_inputs),
            sub_sample_patches=flag(sub_sample_patches),
            patch_mask=patch_mask,
            **options,
        )
        super().__init__(
            spec, (towers,), like=first_array(towers, "inputs", self._label(options))
        )


class ConvOutputMultiKF(DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.ConvOutputMultiKF` as of 2022.

    Args:
        outputs_grads: List over sources of lists over towers, each
            ``[T * batch, ..spatial.., out_channels]`` or ``[T, batch, ...]``, or a list
            over uses.
        num_uses: ``T``, or None where the data say it.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``, of one use.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> g = np.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)  # one case, two uses
        >>> factor = ConvOutputMultiKF([[g]], num_uses=2)
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()
        array([[5.]])
    """

    forms = (multi_use_sources_of,)

    def __init__(
        self,
        outputs_grads: Any,
        num_uses: int | None = None,
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        sources = multi_use_sources_of(outputs_grads)
        like = first_array(sources, "outputs_grads", self._label(options))
        # From the right: there may be an axis of uses on the left.
        first = is_channels_first(data_format)
        place = 1 - len(data_format or "") if first else -1
        size = like.shape[place if like.ndim >= -place else -1]
        spec = core.ConvOutputMultiKF(size, data_format, num_uses, **options)
        super().__init__(spec, (sources,), like)
