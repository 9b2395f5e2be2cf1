"""Factors of the Fisher approximation: each is the spec of one matrix.

A factor estimates one positive semi-definite matrix ``C`` from data, and serves
powers and Cholesky factors of the damped ``C + damping I``. The spec is a frozen
dataclass without arrays; the state is a `FactorState`.
"""

import warnings
from typing import Any

from kfac_core.fisher_factors.base.diagonal import DiagonalFactor
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.bias import BiasFactor
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
from kfac_core.fisher_factors.forms.block_diagonal import BlockDiagonal
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.fisher_factors.forms.diagonal import Diagonal
from kfac_core.fisher_factors.forms.low_rank import LowRank
from kfac_core.fisher_factors.fully_connected import (
    FullyConnectedDiagonalFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.fisher_factors.grouped import (
    GroupedKroneckerFactor,
)
from kfac_core.fisher_factors.naive import NaiveDiagonalFactor, NaiveFullFactor
from kfac_core.fisher_factors.scale_and_shift.factors import (
    ScaleAndShiftDiagonalFactor,
    ScaleAndShiftFactor,
    ScaleAndShiftFullFactor,
)
from kfac_core.fisher_factors.shared.fully_connected import FullyConnectedMultiKF

DenseSquareMatrixFactor = FisherFactor
"""The name in ``tf.contrib.kfac``: a factor is dense, unless it has another form."""

__all__ = [
    "DEFAULT_DAMPING_ID",
    "BiasFactor",
    "BlockDiagonal",
    "ConvDiagonalFactor",
    "ConvInputKroneckerFactor",
    "ConvInputMultiKF",
    "ConvInputSUAKroneckerFactor",
    "ConvOutputKroneckerFactor",
    "ConvOutputMultiKF",
    "Dense",
    "DenseSquareMatrixFactor",
    "DepthwiseConvDiagonalFactor",
    "Derived",
    "Diagonal",
    "DiagonalFactor",
    "DiagonalKroneckerFactor",
    "DiagonalMultiKF",
    "EmbeddingInputKroneckerFactor",
    "FactorState",
    "FisherFactor",
    "Form",
    "FullyConnectedDiagonalFactor",
    "FullyConnectedKroneckerFactor",
    "FullyConnectedMultiKF",
    "GroupedKroneckerFactor",
    "LowRank",
    "NaiveDiagonalFactor",
    "NaiveFullFactor",
    "ScaleAndShiftDiagonalFactor",
    "ScaleAndShiftFactor",
    "ScaleAndShiftFullFactor",
]


def __getattr__(name: str) -> Any:
    """Return what made a factor of another form before forms were fields.

    Raises:
        AttributeError: If there is no such name, or it is one of ``tf.contrib.kfac``
            that has another name here.
    """
    renamed = {
        "FullFactor": "NaiveFullFactor",
        "InverseProvidingFactor": "DenseSquareMatrixFactor",
    }
    if name in renamed:
        msg = (
            f"{name}, a name of older releases of tf.contrib.kfac, is"
            f" kfac_core.contrib.fisher_factors.{name}; in the core it is"
            f" {renamed[name]}"
        )
        raise AttributeError(msg)
    moved: dict[str, tuple[str, Any]] = {
        "FullyConnectedLowRankFactor": ("max_rows", LowRank),
        "FullyConnectedBlockDiagonalFactor": ("num_blocks", BlockDiagonal),
    }
    if name not in moved:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    option, form = moved[name]
    warnings.warn(
        f"{name} is now FullyConnectedKroneckerFactor(..., form={form.__name__}(...))",
        DeprecationWarning,
        stacklevel=2,
    )

    def make(*args: Any, **options: Any) -> FullyConnectedKroneckerFactor:
        own = {"blocks" if form is BlockDiagonal else option: options.pop(option)}
        return FullyConnectedKroneckerFactor(*args, form=form(**own), **options)

    return make
