"""Factors of convolutions, with the original's constructors."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import (
    DenseSquareMatrixFactor,
    DiagonalFactor,
)
from kfac_core.contrib.forms import SourceList, TowerList, sources_of, towers_of
from kfac_core.statistics.convolution_geometry import Padding


class ConvInputKroneckerFactor(DenseSquareMatrixFactor):
    """`kfac_core.ConvInputKroneckerFactor` as in r1.8.

    Args:
        inputs: List over towers of ``[batch, ..spatial.., in_channels]``.
        filter_shape: ``[..kernel.., in_channels, out_channels]``.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        strides: In the form that `extract_patches_fn` implies.
        dilation_rate: Likewise.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        extract_patches_fn: Name of the original's patch extractor.
        has_bias: Whether each patch ends in a one.
        **options: Fields of the spec.
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
        **options: Any,
    ) -> None:
        towers = towers_of(inputs)
        spec = core.ConvInputKroneckerFactor(
            tuple(filter_shape),
            padding,
            None if strides is None else tuple(strides),
            None if dilation_rate is None else tuple(dilation_rate),
            data_format,
            extract_patches_fn,
            has_bias,
            **options,
        )
        super().__init__(spec, (towers,), like=towers[0])


class ConvOutputKroneckerFactor(DenseSquareMatrixFactor):
    """`kfac_core.ConvOutputKroneckerFactor` as in r1.10.

    Args:
        outputs_grads: List over sources of lists over towers of
            ``[batch, ..spatial.., out_channels]``.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        **options: Fields of the spec.
    """

    forms = (sources_of,)

    def __init__(
        self,
        outputs_grads: SourceList,
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        sources = sources_of(outputs_grads)
        like = sources[0][0]
        first = data_format is not None and data_format.startswith("NC")
        size = like.shape[1 if first else -1]
        spec = core.ConvOutputKroneckerFactor(size, data_format, **options)
        super().__init__(spec, (sources,), like)


class ConvDiagonalFactor(DiagonalFactor):
    """`kfac_core.ConvDiagonalFactor` as in r1.10.

    Args:
        inputs: List over towers of ``[batch, ..spatial.., in_channels]``.
        outputs_grads: List over sources of lists over towers of
            ``[batch, ..locations.., out_channels]``.
        filter_shape: ``[..kernel.., in_channels, out_channels]``.
        strides: ``[1, rows, columns, 1]``, or spatial.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        dilations: As `strides`.
        has_bias: Whether the layer has a bias.
        **options: Fields of the spec.
    """

    forms = (towers_of, sources_of)

    def __init__(
        self,
        inputs: TowerList,
        outputs_grads: SourceList,
        filter_shape: Sequence[int],
        strides: Sequence[int],
        padding: Padding,
        data_format: str | None = None,
        dilations: Sequence[int] | None = None,
        has_bias: bool = False,
        **options: Any,
    ) -> None:
        data = self._arrange(inputs, outputs_grads)
        spec = core.ConvDiagonalFactor(
            tuple(filter_shape),
            tuple(strides),
            padding,
            data_format,
            None if dilations is None else tuple(dilations),
            has_bias,
            **options,
        )
        super().__init__(spec, data, like=data[0][0])
