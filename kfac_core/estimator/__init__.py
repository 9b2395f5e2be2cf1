"""The curvature matrix of a whole model: its estimate, inverses and summary."""

from typing import TYPE_CHECKING, Any

from kfac_core.estimator.block_diagonal import BlockDiagonalMatrix
from kfac_core.estimator.fisher_estimator import FisherEstimator
from kfac_core.estimator.schedule import rolling
from kfac_core.estimator.sources import (
    ESTIMATION_MODES,
    EstimationMode,
    MatrixType,
    sources,
)
from kfac_core.estimator.state import EstimatorState
from kfac_core.estimator.summary import summary
from kfac_core.estimator.tridiagonal.cross_factors import CrossFactors
from kfac_core.estimator.tridiagonal.state import TridiagonalState

if TYPE_CHECKING:
    from kfac_core.estimator.tridiagonal.estimator import BlockTridiagonalEstimator

__all__ = [
    "ESTIMATION_MODES",
    "BlockDiagonalMatrix",
    "BlockTridiagonalEstimator",
    "CrossFactors",
    "EstimationMode",
    "EstimatorState",
    "FisherEstimator",
    "MatrixType",
    "TridiagonalState",
    "rolling",
    "sources",
    "summary",
]


def __dir__() -> list[str]:
    """Return the names of what is here, imported or not."""
    return __all__


def __getattr__(name: str) -> Any:
    """Return `BlockTridiagonalEstimator`, which few need, and who does waits for.

    Raises:
        AttributeError: If there is no such name.
    """
    if name == "BlockTridiagonalEstimator":
        from kfac_core.estimator.tridiagonal.estimator import BlockTridiagonalEstimator

        return BlockTridiagonalEstimator
    msg = f"module 'kfac_core.estimator' has no attribute {name!r}"
    raise AttributeError(msg)
