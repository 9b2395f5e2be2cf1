"""``tf.contrib.kfac.fisher_factors``: its classes, with its constructors.

Further keyword options (`name`, `zero_debias`, `init_covariances_at_zero`, and for
embeddings `repeated_ids`) are fields of the spec. With ``zero_debias=False,
init_covariances_at_zero=False`` a factor averages as those of r1.7 and r1.8, whose
initial statistics are the identity.
"""

from kfac_core.contrib.factor_holder import (
    DenseSquareMatrixFactor,
    DiagonalFactor,
    FisherFactor,
    InverseProvidingFactor,
)
from kfac_core.contrib.fisher_factors.convolution import (
    ConvInputKroneckerFactor,
    ConvInputSUAKroneckerFactor,
    ConvOutputKroneckerFactor,
)
from kfac_core.contrib.fisher_factors.convolution_diagonal import (
    ConvDiagonalFactor,
)
from kfac_core.contrib.fisher_factors.convolution_multi import (
    ConvInputMultiKF,
    ConvOutputMultiKF,
)
from kfac_core.contrib.fisher_factors.diagonal_kronecker import (
    DiagonalKroneckerFactor,
    DiagonalMultiKF,
)
from kfac_core.contrib.fisher_factors.embedding import (
    EmbeddingInputKroneckerFactor,
)
from kfac_core.contrib.fisher_factors.fully_connected import (
    FullyConnectedDiagonalFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.contrib.fisher_factors.multi import FullyConnectedMultiKF
from kfac_core.contrib.fisher_factors.naive import (
    FullFactor,
    NaiveDiagonalFactor,
    NaiveFullFactor,
)
from kfac_core.contrib.fisher_factors.scale_and_shift import (
    ScaleAndShiftDiagonalFactor,
    ScaleAndShiftFullFactor,
)

__all__ = [
    "ConvDiagonalFactor",
    "ConvInputKroneckerFactor",
    "ConvInputMultiKF",
    "ConvInputSUAKroneckerFactor",
    "ConvOutputKroneckerFactor",
    "ConvOutputMultiKF",
    "DenseSquareMatrixFactor",
    "DiagonalFactor",
    "DiagonalKroneckerFactor",
    "DiagonalMultiKF",
    "EmbeddingInputKroneckerFactor",
    "FisherFactor",
    "FullFactor",
    "FullyConnectedDiagonalFactor",
    "FullyConnectedKroneckerFactor",
    "FullyConnectedMultiKF",
    "InverseProvidingFactor",
    "NaiveDiagonalFactor",
    "NaiveFullFactor",
    "ScaleAndShiftDiagonalFactor",
    "ScaleAndShiftFullFactor",
]
