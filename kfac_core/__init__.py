"""The mathematics of K-FAC, written once for every array library.

K-FAC approximates the Fisher information of a neural network, layer by layer, by
Kronecker products of small matrices, and preconditions gradients with its inverse.

Start with a block, such as `FullyConnectedKFACBasicFB`: a frozen spec whose verbs take
a state and return a new one; or, to train a model, with `KfacOptimizer`. Arrays of
NumPy, PyTorch, JAX and CuPy come in, and arrays of the same library, device and dtype
go out.

Example:
    >>> import numpy as np
    >>> import kfac_core as kc
    >>> rng = np.random.default_rng(0)
    >>> x, g = rng.normal(size=(32, 4)), rng.normal(size=(32, 3))
    >>> block = kc.FullyConnectedKFACBasicFB(input_size=4, output_size=3)
    >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.95)
    >>> state = block.update_inverses(state, damping=1e-2)
    >>> block.multiply_inverse(state, x.T @ g / 32).shape
    (4, 3)
"""

from kfac_core.errors import (
    ArgumentError,
    BackendError,
    DTypeError,
    EigendecompositionError,
    KfacError,
    NotComputedError,
    NotFiniteError,
    NotPositiveDefiniteError,
    NotRegisteredError,
    RegistrationError,
    ShapeError,
    StateError,
    UnsupportedError,
)
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.fisher_blocks import (
    BiasDiagonalFB,
    BiasFullFB,
    BilinearKFACFB,
    ConvDiagonalFB,
    ConvKFCBasicFB,
    ConvKFCBasicMultiIndepFB,
    DepthwiseConvDiagonalFB,
    DepthwiseConvKFCBasicFB,
    EmbeddingKFACFB,
    EmbeddingKFACMultiIndepFB,
    FisherBlock,
    FullFB,
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
    FullyConnectedMultiIndepFB,
    FullyConnectedMultiPartialBiasFB,
    FullyConnectedSeriesFB,
    GroupedConvKFCBasicFB,
    KroneckerProductFB,
    KroneckerState,
    MultiUseFB,
    NaiveDiagonalFB,
    NaiveFullFB,
    PartsFB,
    PartsState,
    ScaleAndShiftDiagonalFB,
    ScaleAndShiftFullFB,
    SeriesFBApproximation,
    SingleFactorFB,
    SingleFactorState,
    TiedWeightsKFACFB,
    TransposedConvKFCBasicFB,
)
from kfac_core.fisher_factors import (
    BiasDiagonalFactor,
    BiasFullFactor,
    ConvDiagonalFactor,
    ConvInputKroneckerFactor,
    ConvInputMultiKF,
    ConvInputSUAKroneckerFactor,
    ConvOutputKroneckerFactor,
    ConvOutputMultiKF,
    DenseSquareMatrixFactor,
    DepthwiseConvDiagonalFactor,
    DiagonalFactor,
    DiagonalKroneckerFactor,
    DiagonalMultiKF,
    EmbeddingInputKroneckerFactor,
    FactorState,
    FisherFactor,
    FullFactor,
    FullyConnectedBlockDiagonalFactor,
    FullyConnectedDiagonalFactor,
    FullyConnectedKroneckerFactor,
    FullyConnectedLowRankFactor,
    FullyConnectedMultiKF,
    GroupedKroneckerFactor,
    InverseProvidingFactor,
    NaiveDiagonalFactor,
    NaiveFullFactor,
    ScaleAndShiftDiagonalFactor,
    ScaleAndShiftFullFactor,
)
from kfac_core.layer_collection import (
    LayerCollection,
    LayerRegistration,
    LossRegistration,
)
from kfac_core.linalg.operators import (
    DiagonalOperator,
    FullMatrixOperator,
    LinearOperator,
)
from kfac_core.linearization import Linearization, Model, SecondOrderLinearization
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    IndependentNaturalParamsNegativeLogProbLoss,
    LossFunction,
    MultiBernoulliNegativeLogProbLoss,
    NaturalParamsNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
    NormalMeanVarianceNegativeLogProbLoss,
    OnehotCategoricalLogitsNegativeLogProbLoss,
)
from kfac_core.optimizer import KfacOptimizer, KfacState, StepStatistics
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.registry import available_backends, backend_of, load_backend
from kfac_core.typing import Pair, RowWeights, Uses

__all__ = [
    "ArgumentError",
    "BackendError",
    "BiasDiagonalFB",
    "BiasDiagonalFactor",
    "BiasFullFB",
    "BiasFullFactor",
    "BilinearKFACFB",
    "CategoricalLogitsNegativeLogProbLoss",
    "ConvDiagonalFB",
    "ConvDiagonalFactor",
    "ConvInputKroneckerFactor",
    "ConvInputMultiKF",
    "ConvInputSUAKroneckerFactor",
    "ConvKFCBasicFB",
    "ConvKFCBasicMultiIndepFB",
    "ConvOutputKroneckerFactor",
    "ConvOutputMultiKF",
    "CurvatureMatrixVectorProductComputer",
    "DTypeError",
    "DenseSquareMatrixFactor",
    "DepthwiseConvDiagonalFB",
    "DepthwiseConvDiagonalFactor",
    "DepthwiseConvKFCBasicFB",
    "DiagonalFactor",
    "DiagonalKroneckerFactor",
    "DiagonalMultiKF",
    "DiagonalOperator",
    "EigendecompositionError",
    "EmbeddingInputKroneckerFactor",
    "EmbeddingKFACFB",
    "EmbeddingKFACMultiIndepFB",
    "EstimatorState",
    "FactorState",
    "FisherBlock",
    "FisherEstimator",
    "FisherFactor",
    "FullFB",
    "FullFactor",
    "FullMatrixOperator",
    "FullyConnectedBlockDiagonalFactor",
    "FullyConnectedDiagonalFB",
    "FullyConnectedDiagonalFactor",
    "FullyConnectedKFACBasicFB",
    "FullyConnectedKroneckerFactor",
    "FullyConnectedLowRankFactor",
    "FullyConnectedMultiIndepFB",
    "FullyConnectedMultiKF",
    "FullyConnectedMultiPartialBiasFB",
    "FullyConnectedSeriesFB",
    "GroupedConvKFCBasicFB",
    "GroupedKroneckerFactor",
    "IndependentNaturalParamsNegativeLogProbLoss",
    "InverseProvidingFactor",
    "KfacError",
    "KfacOptimizer",
    "KfacState",
    "KroneckerProductFB",
    "KroneckerState",
    "LayerCollection",
    "LayerRegistration",
    "LinearOperator",
    "Linearization",
    "LossFunction",
    "LossRegistration",
    "Model",
    "MultiBernoulliNegativeLogProbLoss",
    "MultiUseFB",
    "NaiveDiagonalFB",
    "NaiveDiagonalFactor",
    "NaiveFullFB",
    "NaiveFullFactor",
    "NaturalParamsNegativeLogProbLoss",
    "NormalMeanNegativeLogProbLoss",
    "NormalMeanVarianceNegativeLogProbLoss",
    "NotComputedError",
    "NotFiniteError",
    "NotPositiveDefiniteError",
    "NotRegisteredError",
    "OnehotCategoricalLogitsNegativeLogProbLoss",
    "Pair",
    "PartsFB",
    "PartsState",
    "RegistrationError",
    "RowWeights",
    "ScaleAndShiftDiagonalFB",
    "ScaleAndShiftDiagonalFactor",
    "ScaleAndShiftFullFB",
    "ScaleAndShiftFullFactor",
    "SecondOrderLinearization",
    "SeriesFBApproximation",
    "ShapeError",
    "SingleFactorFB",
    "SingleFactorState",
    "StateError",
    "StepStatistics",
    "TiedWeightsKFACFB",
    "TransposedConvKFCBasicFB",
    "UnsupportedError",
    "Uses",
    "available_backends",
    "backend_of",
    "load_backend",
]


def __getattr__(name: str) -> str:
    """Return ``__version__``: reading the metadata takes time that few need."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kfac_core")
    msg = f"module 'kfac_core' has no attribute {name!r}"
    raise AttributeError(msg)
