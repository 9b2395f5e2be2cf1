"""The layers and losses of a model: which block covers which parameters."""

from kfac_core.layer_collection.approximations import APPROXIMATIONS, Approximation
from kfac_core.layer_collection.collection import LayerCollection
from kfac_core.layer_collection.records import LayerRegistration, LossRegistration

__all__ = [
    "APPROXIMATIONS",
    "Approximation",
    "LayerCollection",
    "LayerRegistration",
    "LossRegistration",
]
