"""Factors of the Fisher approximation: each is the spec of one matrix.

A factor estimates one positive semi-definite matrix ``C`` from data, and serves
powers and Cholesky factors of the damped ``C + damping I``. The spec is a frozen
dataclass without arrays; the state is a `FactorState`.
"""

from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.bias import (
    BiasDiagonalFactor,
    BiasFactor,
    BiasFullFactor,
)
from kfac_core.fisher_factors.convolution.depthwise import (
    DepthwiseConvDiagonalFactor,
)
from kfac_core.fisher_factors.convolution.diagonal import ConvDiagonalFactor
from kfac_core.fisher_factors.convolution.kronecker import (
    ConvInputKroneckerFactor,
    ConvOutputKroneckerFactor,
)
from kfac_core.fisher_factors.convolution.multi import (
    ConvInputMultiKF,
    ConvOutputMultiKF,
)
from kfac_core.fisher_factors.convolution.uncorrelated import (
    ConvInputSUAKroneckerFactor,
)
from kfac_core.fisher_factors.diagonal_kronecker import (
    DiagonalKroneckerFactor,
    DiagonalMultiKF,
)
from kfac_core.fisher_factors.embedding import EmbeddingInputKroneckerFactor
from kfac_core.fisher_factors.forms.block_diagonal import (
    FullyConnectedBlockDiagonalFactor,
)
from kfac_core.fisher_factors.forms.dense import (
    DenseSquareMatrixFactor,
    InverseProvidingFactor,
)
from kfac_core.fisher_factors.forms.diagonal import DiagonalFactor
from kfac_core.fisher_factors.forms.low_rank import FullyConnectedLowRankFactor
from kfac_core.fisher_factors.fully_connected import (
    FullyConnectedDiagonalFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.fisher_factors.grouped import (
    GroupedKroneckerFactor,
)
from kfac_core.fisher_factors.naive import (
    FullFactor,
    NaiveDiagonalFactor,
    NaiveFullFactor,
)
from kfac_core.fisher_factors.scale_and_shift.factors import (
    ScaleAndShiftDiagonalFactor,
    ScaleAndShiftFactor,
    ScaleAndShiftFullFactor,
)
from kfac_core.fisher_factors.shared.fully_connected import FullyConnectedMultiKF

__all__ = [
    "DEFAULT_DAMPING_ID",
    "BiasDiagonalFactor",
    "BiasFactor",
    "BiasFullFactor",
    "ConvDiagonalFactor",
    "ConvInputKroneckerFactor",
    "ConvInputMultiKF",
    "ConvInputSUAKroneckerFactor",
    "ConvOutputKroneckerFactor",
    "ConvOutputMultiKF",
    "DenseSquareMatrixFactor",
    "DepthwiseConvDiagonalFactor",
    "Derived",
    "DiagonalFactor",
    "DiagonalKroneckerFactor",
    "DiagonalMultiKF",
    "EmbeddingInputKroneckerFactor",
    "FactorState",
    "FisherFactor",
    "FullFactor",
    "FullyConnectedBlockDiagonalFactor",
    "FullyConnectedDiagonalFactor",
    "FullyConnectedKroneckerFactor",
    "FullyConnectedLowRankFactor",
    "FullyConnectedMultiKF",
    "GroupedKroneckerFactor",
    "InverseProvidingFactor",
    "NaiveDiagonalFactor",
    "NaiveFullFactor",
    "ScaleAndShiftDiagonalFactor",
    "ScaleAndShiftFactor",
    "ScaleAndShiftFullFactor",
]
