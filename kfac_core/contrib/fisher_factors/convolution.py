"""The Kronecker factors of convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from kfac_core import fisher_factors as core
from kfac_core.arguments.options import check_word
from kfac_core.contrib.factor_holder import DenseSquareMatrixFactor, FisherFactor
from kfac_core.contrib.forms import (
    SourceList,
    TowerList,
    first_array,
    flag,
    is_channels_first,
    sources_of,
    towers_of,
)
from kfac_core.contrib.original_specs import CovariancesSUAKroneckerFactor
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.statistics.patches.geometry import Padding

Averaged: TypeAlias = Literal["moments", "covariances"]
"""What is averaged over batches: second moments, or each batch's covariance."""

SUA_SPECS = {
    "moments": core.ConvInputSUAKroneckerFactor,
    "covariances": CovariancesSUAKroneckerFactor,
}


class ConvInputKroneckerFactor(DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.ConvInputKroneckerFactor` as of r1.8 and since.

    Args:
        inputs: List over towers of ``[batch, ..spatial.., in_channels]``.
        filter_shape: ``[..kernel.., in_channels, out_channels]``.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        strides: In the form that `extract_patches_fn` implies.
        dilation_rate: In the form that `extract_patches_fn` implies.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        extract_patches_fn: Name of a patch extractor of ``tf.contrib.kfac``.
        has_bias: Whether each patch ends in a one.
        sub_sample_inputs: Whether each update draws some of the cases; its op then
            takes a ``key``.
        sub_sample_patches: Whether each update draws some of the patches; its op then
            takes a ``key``.
        patch_mask: ``[..kernel.., in_channels]``, what each patch is multiplied by.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1)
        >>> factor = ConvInputKroneckerFactor([x], (1, 2, 1, 1), padding="VALID")
        >>> factor.instantiate_cov_variables()
        >>> update = factor.make_covariance_update_op(ema_decay=0.95)
        >>> update()  # the mean of two patches, [1, 2] and [2, 4]
        array([[ 2.5,  5. ],
               [ 5. , 10. ]])
    """

    forms = (towers_of,)

    def __init__(
        self,
        inputs: TowerList,
        filter_shape: Sequence[int],
        padding: Padding,
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
        towers = towers_of(inputs)
        geometry = geometry_for(
            filter_shape,
            padding,
            strides,
            dilation_rate,
            data_format,
            extract_patches_fn,
            self._label(options),
        )
        spec = core.ConvInputKroneckerFactor(
            geometry,
            has_bias,
            sub_sample_inputs=flag(sub_sample_inputs),
            sub_sample_patches=flag(sub_sample_patches),
            patch_mask=patch_mask,
            **options,
        )
        super().__init__(
            spec, (towers,), like=first_array(towers, "inputs", self._label(options))
        )


class ConvInputSUAKroneckerFactor(FisherFactor):
    """`kfac_core.fisher_factors.ConvInputSUAKroneckerFactor` as of 2022.

    The global switches of ``tf.contrib.kfac`` (``assume_zero_mean``, ``subtract_mean``)
    are options of each factor.

    Args:
        inputs: List over towers of ``[batch, ..spatial.., in_channels]``.
        filter_shape: ``[..kernel.., in_channels, out_channels]``.
        has_bias: Whether each patch ends in a one.
        averaged: ``"moments"``: mean and covariance are those of all batches together;
            ``"covariances"``: each batch's covariance is about the mean of its own
            batch, as in ``tf.contrib.kfac``.
        **options: Fields of the spec; and, where pixels do not all count alike, the
            geometry, by the names of `ConvInputKroneckerFactor`.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
        >>> factor = ConvInputSUAKroneckerFactor([x], (1, 2, 1, 1), padding="VALID")
        >>> factor.instantiate_cov_variables()
        >>> _ = factor.make_covariance_update_op(ema_decay=0.95)()
        >>> factor.get_cov().round(4)  # variance 2/3; neighbours share the mean, 2
        array([[4.6667, 4.    ],
               [4.    , 4.6667]])
    """

    forms = (towers_of,)

    def __init__(
        self,
        inputs: TowerList,
        filter_shape: Sequence[int],
        has_bias: bool = False,
        averaged: Averaged = "moments",
        **options: Any,
    ) -> None:
        check_word(averaged, tuple(SUA_SPECS), "averaged", self._label(options))
        make = SUA_SPECS[averaged]
        towers = towers_of(inputs)
        geometry = geometry_for(
            filter_shape,
            options.pop("padding", "SAME"),
            options.pop("strides", None),
            options.pop("dilation_rate", None),
            options.pop("data_format", None),
            options.pop("extract_patches_fn", None),
            self._label(options),
        )
        spec = make(geometry, has_bias, **options)
        super().__init__(
            spec, (towers,), like=first_array(towers, "inputs", self._label(options))
        )


class ConvOutputKroneckerFactor(DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.ConvOutputKroneckerFactor` as of r1.10.

    Args:
        outputs_grads: List over sources of lists over towers of
            ``[batch, ..spatial.., out_channels]``.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> g = np.asarray([[1.0, 0.0], [1.0, 2.0]]).reshape(1, 1, 2, 2)
        >>> factor = ConvOutputKroneckerFactor([[g]])
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # a mean over locations
        array([[1., 1.],
               [1., 2.]])
    """

    forms = (sources_of,)

    def __init__(
        self,
        outputs_grads: SourceList,
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        sources = sources_of(outputs_grads)
        like = first_array(sources, "outputs_grads", self._label(options))
        first = is_channels_first(data_format)
        size = like.shape[1 if first and like.ndim > 1 else -1]
        spec = core.ConvOutputKroneckerFactor(size, data_format, **options)
        super().__init__(spec, (sources,), like)
