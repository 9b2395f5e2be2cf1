"""Blocks of the Fisher approximation: each is the spec of one layer's Fisher.

A block multiplies powers and Cholesky factors of its damped Fisher block with vectors
that have the form of the layer's parameters. The spec is a frozen dataclass without
arrays; the state is a `KroneckerState` or a `SingleFactorState`.
"""

from typing import Any

from kfac_core.fisher_blocks.around.forward_only import ForwardOnlyFB
from kfac_core.fisher_blocks.around.kronecker_optimal import KroneckerOptimalFB
from kfac_core.fisher_blocks.around.shampoo import ShampooFB
from kfac_core.fisher_blocks.around.state import FittedState
from kfac_core.fisher_blocks.around.tensor_normal import TensorNormalTrainingFB
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.parts import PartsFB, PartsState
from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_blocks.bias import BiasDiagonalFB, BiasFB, BiasFullFB
from kfac_core.fisher_blocks.bilinear import BilinearKFACFB
from kfac_core.fisher_blocks.convolution.depthwise import (
    DepthwiseConvDiagonalFB,
    DepthwiseConvKFCBasicFB,
)
from kfac_core.fisher_blocks.convolution.diagonal import ConvDiagonalFB
from kfac_core.fisher_blocks.convolution.grouped import (
    GroupedConvKFCBasicFB,
)
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.fisher_blocks.convolution.transposed import (
    TransposedConvKFCBasicFB,
)
from kfac_core.fisher_blocks.eigenvalue_corrected.block import EigenvalueCorrectedFB
from kfac_core.fisher_blocks.eigenvalue_corrected.soap import SoapFB
from kfac_core.fisher_blocks.eigenvalue_corrected.state import CorrectedState
from kfac_core.fisher_blocks.embedding.kronecker import EmbeddingKFACFB
from kfac_core.fisher_blocks.fully_connected import (
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
)
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.naive import NaiveDiagonalFB, NaiveFullFB
from kfac_core.fisher_blocks.scale_and_shift import (
    ScaleAndShiftDiagonalFB,
    ScaleAndShiftFB,
    ScaleAndShiftFullFB,
)
from kfac_core.fisher_blocks.shared.convolution import (
    ConvKFCBasicMultiIndepFB,
    GroupedConvKFCBasicMultiIndepFB,
)
from kfac_core.fisher_blocks.shared.embedding import EmbeddingKFACMultiIndepFB
from kfac_core.fisher_blocks.shared.fully_connected import (
    FullyConnectedMultiIndepFB,
    MultiUseFB,
)
from kfac_core.fisher_blocks.shared.partial_bias import (
    FullyConnectedMultiPartialBiasFB,
)
from kfac_core.fisher_blocks.shared.reduced import KFACReduceFB
from kfac_core.fisher_blocks.shared.series import (
    FullyConnectedSeriesFB,
    SeriesFBApproximation,
)
from kfac_core.fisher_blocks.shared.transposed import (
    TransposedConvKFCBasicMultiIndepFB,
)
from kfac_core.fisher_blocks.tied.block import TiedWeightsKFACFB

__all__ = [
    "BiasDiagonalFB",
    "BiasFB",
    "BiasFullFB",
    "BilinearKFACFB",
    "ConvDiagonalFB",
    "ConvKFCBasicFB",
    "ConvKFCBasicMultiIndepFB",
    "CorrectedState",
    "DepthwiseConvDiagonalFB",
    "DepthwiseConvKFCBasicFB",
    "EigenvalueCorrectedFB",
    "EmbeddingKFACFB",
    "EmbeddingKFACMultiIndepFB",
    "FisherBlock",
    "FittedState",
    "ForwardOnlyFB",
    "FullyConnectedDiagonalFB",
    "FullyConnectedKFACBasicFB",
    "FullyConnectedMultiIndepFB",
    "FullyConnectedMultiPartialBiasFB",
    "FullyConnectedSeriesFB",
    "GroupedConvKFCBasicFB",
    "GroupedConvKFCBasicMultiIndepFB",
    "KFACReduceFB",
    "KroneckerOptimalFB",
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
    "ShampooFB",
    "SingleFactorFB",
    "SingleFactorState",
    "SoapFB",
    "TensorNormalTrainingFB",
    "TiedWeightsKFACFB",
    "TransposedConvKFCBasicFB",
    "TransposedConvKFCBasicMultiIndepFB",
]


def __getattr__(name: str) -> Any:
    """Say where a name of an older release of ``tf.contrib.kfac`` is.

    Raises:
        AttributeError: Always.
    """
    if name == "FullFB":
        msg = (
            "FullFB, a name of older releases of tf.contrib.kfac, is"
            " kfac_core.contrib.fisher_blocks.FullFB; in the core it is NaiveFullFB"
        )
        raise AttributeError(msg)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
