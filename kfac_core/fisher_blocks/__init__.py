"""Blocks of the Fisher approximation: specs of one layer's Fisher each.

A block multiplies vectors in the form of a layer's parameters with powers and Cholesky
factors of its damped Fisher block. The spec is a frozen dataclass without arrays; the
state is a `KroneckerState` or a `SingleFactorState`.
"""

from kfac_core.fisher_blocks.base import FisherBlock
from kfac_core.fisher_blocks.convolution import ConvDiagonalFB, ConvKFCBasicFB
from kfac_core.fisher_blocks.embedding import EmbeddingKFACFB
from kfac_core.fisher_blocks.fully_connected import (
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
)
from kfac_core.fisher_blocks.kronecker import KroneckerProductFB, KroneckerState
from kfac_core.fisher_blocks.naive import FullFB, NaiveDiagonalFB, NaiveFullFB
from kfac_core.fisher_blocks.single_factor import SingleFactorFB, SingleFactorState

__all__ = [
    "ConvDiagonalFB",
    "ConvKFCBasicFB",
    "EmbeddingKFACFB",
    "FisherBlock",
    "FullFB",
    "FullyConnectedDiagonalFB",
    "FullyConnectedKFACBasicFB",
    "KroneckerProductFB",
    "KroneckerState",
    "NaiveDiagonalFB",
    "NaiveFullFB",
    "SingleFactorFB",
    "SingleFactorState",
]
