"""Factors of the Fisher approximation: specs of one matrix each.

A factor estimates one positive semi-definite matrix ``C`` from data, and serves
powers and Cholesky factors of the damped ``C + damping I``. The spec is a frozen
dataclass without arrays; the state is a `FactorState`.
"""

from kfac_core.fisher_factors.base import FisherFactor
from kfac_core.fisher_factors.convolution import (
    ConvDiagonalFactor,
    ConvInputKroneckerFactor,
    ConvOutputKroneckerFactor,
)
from kfac_core.fisher_factors.dense import (
    DenseSquareMatrixFactor,
    InverseProvidingFactor,
)
from kfac_core.fisher_factors.diagonal import DiagonalFactor
from kfac_core.fisher_factors.embedding import EmbeddingInputKroneckerFactor
from kfac_core.fisher_factors.fully_connected import (
    FullyConnectedDiagonalFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.fisher_factors.naive import (
    FullFactor,
    NaiveDiagonalFactor,
    NaiveFullFactor,
)
from kfac_core.fisher_factors.registration import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.state import Derived, FactorState

__all__ = [
    "DEFAULT_DAMPING_ID",
    "ConvDiagonalFactor",
    "ConvInputKroneckerFactor",
    "ConvOutputKroneckerFactor",
    "DenseSquareMatrixFactor",
    "Derived",
    "DiagonalFactor",
    "EmbeddingInputKroneckerFactor",
    "FactorState",
    "FisherFactor",
    "FullFactor",
    "FullyConnectedDiagonalFactor",
    "FullyConnectedKroneckerFactor",
    "InverseProvidingFactor",
    "NaiveDiagonalFactor",
    "NaiveFullFactor",
]
