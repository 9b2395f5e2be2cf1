"""``tf.contrib.kfac.fisher_factors``: the original's constructors.

Keyword options beyond the original's (`name`, `zero_debias`,
`init_covariances_at_zero`, and for embeddings `repeated_ids`) are fields of the spec.
With ``zero_debias=False, init_covariances_at_zero=False`` a factor averages as those of
r1.7 and r1.8, whose initial statistics are the identity.
"""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import (
    DenseSquareMatrixFactor,
    DiagonalFactor,
    FisherFactor,
    InverseProvidingFactor,
)
from kfac_core.contrib.forms import SourceList, TowerList, sources_of, towers_of
from kfac_core.linalg.parameters import num_entries
from kfac_core.statistics.convolution_geometry import Padding
from kfac_core.typing import DTypeName

__all__ = [
    "ConvDiagonalFactor",
    "ConvInputKroneckerFactor",
    "ConvOutputKroneckerFactor",
    "DenseSquareMatrixFactor",
    "DiagonalFactor",
    "EmbeddingInputKroneckerFactor",
    "FisherFactor",
    "FullFactor",
    "FullyConnectedDiagonalFactor",
    "FullyConnectedKroneckerFactor",
    "InverseProvidingFactor",
    "NaiveDiagonalFactor",
    "NaiveFullFactor",
]


class EmbeddingInputKroneckerFactor(DiagonalFactor):
    """`kfac_core.EmbeddingInputKroneckerFactor` as in r1.8.

    Args:
        input_ids: List over towers of integers ``[batch]`` or ``[batch, m]``.
        vocab_size: Number of ids.
        dtype: Dtype of the statistics; by default float32.
        **options: Fields of the spec.
    """

    forms = (towers_of,)

    def __init__(
        self,
        input_ids: TowerList,
        vocab_size: int,
        dtype: DTypeName | None = None,
        **options: Any,
    ) -> None:
        towers = towers_of(input_ids)
        spec = core.EmbeddingInputKroneckerFactor(vocab_size, dtype, **options)
        super().__init__(spec, (towers,), like=towers[0])


class FullyConnectedKroneckerFactor(DenseSquareMatrixFactor):
    """`kfac_core.FullyConnectedKroneckerFactor` as in r1.10.

    Args:
        tensors: List over sources of lists over towers of ``[batch, n]``.
        has_bias: Whether each row ends in a one.
        **options: Fields of the spec.
    """

    forms = (sources_of,)

    def __init__(
        self, tensors: SourceList, has_bias: bool = False, **options: Any
    ) -> None:
        sources = sources_of(tensors)
        like = sources[0][0]
        spec = core.FullyConnectedKroneckerFactor(like.shape[-1], has_bias, **options)
        super().__init__(spec, (sources,), like)


class FullyConnectedDiagonalFactor(DiagonalFactor):
    """`kfac_core.FullyConnectedDiagonalFactor` as in r1.10.

    Args:
        inputs: List over towers of ``[batch, input_size]``.
        outputs_grads: List over sources of lists over towers of
            ``[batch, output_size]``.
        has_bias: Whether each row of inputs ends in a one.
        **options: Fields of the spec.
    """

    forms = (towers_of, sources_of)

    def __init__(
        self,
        inputs: TowerList,
        outputs_grads: SourceList,
        has_bias: bool = False,
        **options: Any,
    ) -> None:
        data = self._arrange(inputs, outputs_grads)
        like = data[1][0][0]
        spec = core.FullyConnectedDiagonalFactor(
            data[0][0].shape[-1], like.shape[-1], has_bias, **options
        )
        super().__init__(spec, data, like)


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


class _NaiveForms(FisherFactor):
    """Data of the naive factors: sources of parameter gradients, and a batch size."""

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        params_grads, *batch_size = data
        return sources_of(params_grads), *(batch_size or self._data[1:])


class NaiveFullFactor(_NaiveForms, DenseSquareMatrixFactor):
    """`kfac_core.NaiveFullFactor`; ``FullFactor`` until r1.10.

    Args:
        params_grads: List over sources of a gradient or a tuple of gradients, of the
            loss summed over all cases.
        batch_size: Number of cases.
        **options: Fields of the spec.
    """

    def __init__(
        self, params_grads: SourceList, batch_size: int, **options: Any
    ) -> None:
        sources = sources_of(params_grads)
        spec = core.NaiveFullFactor(num_entries(sources[0]), **options)
        super().__init__(spec, (sources, batch_size), like=sources[0][0])


FullFactor = NaiveFullFactor


class NaiveDiagonalFactor(_NaiveForms, DiagonalFactor):
    """`kfac_core.NaiveDiagonalFactor` as in r1.10.

    Args:
        params_grads: As in `NaiveFullFactor`.
        batch_size: Number of cases.
        **options: Fields of the spec.
    """

    def __init__(
        self, params_grads: SourceList, batch_size: int, **options: Any
    ) -> None:
        sources = sources_of(params_grads)
        spec = core.NaiveDiagonalFactor(num_entries(sources[0]), **options)
        super().__init__(spec, (sources, batch_size), like=sources[0][0])
