"""Optimisers that precondition with K-FAC."""

from kfac_core.optimizer.kfac_optimizer import KfacOptimizer
from kfac_core.optimizer.options import KfacOptions, MomentumType, PredictedChange
from kfac_core.optimizer.state import KfacState, StepStatistics

__all__ = [
    "KfacOptimizer",
    "KfacOptions",
    "KfacState",
    "MomentumType",
    "PredictedChange",
    "StepStatistics",
]
