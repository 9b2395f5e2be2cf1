"""Blocks of the Fisher approximation: specs of one layer's Fisher each.

A block multiplies vectors in the form of a layer's parameters with powers and Cholesky
factors of its damped Fisher block. The spec is a frozen dataclass without arrays; the
state is a `KroneckerState` or a `SingleFactorState`.
"""

from kfac_core.fisher_blocks.base import FisherBlock
from kfac_core.fisher_blocks.bias import BiasDiagonalFB, BiasFB, BiasFullFB
from kfac_core.fisher_blocks.bilinear import BilinearKFACFB
from kfac_core.fisher_blocks.convolution import ConvKFCBasicFB
from kfac_core.fisher_blocks.convolution_diagonal import ConvDiagonalFB
from kfac_core.fisher_blocks.convolution_multi import ConvKFCBasicMultiIndepFB
from kfac_core.fisher_blocks.depthwise_convolution import (
    DepthwiseConvDiagonalFB,
    DepthwiseConvKFCBasicFB,
)
from kfac_core.fisher_blocks.embedding import EmbeddingKFACFB
from kfac_core.fisher_blocks.embedding_multi import EmbeddingKFACMultiIndepFB
from kfac_core.fisher_blocks.fully_connected import (
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
)
from kfac_core.fisher_blocks.grouped_convolution import (
    GroupedConvKFCBasicFB,
)
from kfac_core.fisher_blocks.kronecker import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker_state import KroneckerState
from kfac_core.fisher_blocks.multi import FullyConnectedMultiIndepFB, MultiUseFB
from kfac_core.fisher_blocks.multi_partial_bias import (
    FullyConnectedMultiPartialBiasFB,
)
from kfac_core.fisher_blocks.naive import FullFB, NaiveDiagonalFB, NaiveFullFB
from kfac_core.fisher_blocks.parts import PartsFB, PartsState
from kfac_core.fisher_blocks.scale_and_shift import (
    ScaleAndShiftDiagonalFB,
    ScaleAndShiftFB,
    ScaleAndShiftFullFB,
)
from kfac_core.fisher_blocks.series import (
    FullyConnectedSeriesFB,
    SeriesFBApproximation,
)
from kfac_core.fisher_blocks.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_blocks.tied import TiedWeightsKFACFB
from kfac_core.fisher_blocks.transposed_convolution import (
    TransposedConvKFCBasicFB,
)

__all__ = [
    "BiasDiagonalFB",
    "BiasFB",
    "BiasFullFB",
    "BilinearKFACFB",
    "ConvDiagonalFB",
    "ConvKFCBasicFB",
    "ConvKFCBasicMultiIndepFB",
    "DepthwiseConvDiagonalFB",
    "DepthwiseConvKFCBasicFB",
    "EmbeddingKFACFB",
    "EmbeddingKFACMultiIndepFB",
    "FisherBlock",
    "FullFB",
    "FullyConnectedDiagonalFB",
    "FullyConnectedKFACBasicFB",
    "FullyConnectedMultiIndepFB",
    "FullyConnectedMultiPartialBiasFB",
    "FullyConnectedSeriesFB",
    "GroupedConvKFCBasicFB",
    "KroneckerProductFB",
    "KroneckerState",
    "MultiUseFB",
    "NaiveDiagonalFB",
    "NaiveFullFB",
    "PartsFB",
    "PartsState",
    "ScaleAndShiftDiagonalFB",
    "ScaleAndShiftFB",
    "ScaleAndShiftFullFB",
    "SeriesFBApproximation",
    "SingleFactorFB",
    "SingleFactorState",
    "TiedWeightsKFACFB",
    "TransposedConvKFCBasicFB",
]
