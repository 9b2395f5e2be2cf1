"""Optimisers that precondition with K-FAC."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Whoever reads a state must know its class, with or without an optimiser.
from kfac_core.optimizer.state import KfacState, StepStatistics

if TYPE_CHECKING:
    from kfac_core.optimizer.kfac_optimizer import KfacOptimizer
    from kfac_core.optimizer.options import (
        KfacOptions,
        MomentumType,
        PredictedChange,
    )

__all__ = [
    "KfacOptimizer",
    "KfacOptions",
    "KfacState",
    "MomentumType",
    "PredictedChange",
    "StepStatistics",
]

_IMPORTED_LATER = {
    "KfacOptimizer": "kfac_optimizer",
    "KfacOptions": "options",
    "MomentumType": "options",
    "PredictedChange": "options",
}
"""The modules of names that a program without an optimiser does not need."""


def __dir__() -> list[str]:
    """Return the names of what is here, imported or not."""
    return __all__


def __getattr__(name: str) -> Any:
    """Return what is imported when it is first used.

    Raises:
        AttributeError: If there is no such name.
    """
    if name in _IMPORTED_LATER:
        module = import_module(f"kfac_core.optimizer.{_IMPORTED_LATER[name]}")
        return getattr(module, name)
    msg = f"module 'kfac_core.optimizer' has no attribute {name!r}"
    raise AttributeError(msg)
