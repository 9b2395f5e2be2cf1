"""The layers and losses of a model: what covers which parameter, by which block."""

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
