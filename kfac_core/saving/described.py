"""A spec as JSON: all its fields, and those among them that a state depends on."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from kfac_core.estimator import BlockTridiagonalEstimator, FisherEstimator
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.optimizer import KfacOptions
from kfac_core.spec import Spec

_BOUND = {
    KfacOptions: {"momentum_type", "damping", "layer_collection"},
    FisherEstimator: {
        "layer_collection",
        "matpowers",
        "compute_cholesky",
        "compute_cholesky_inverse",
    },
    BlockTridiagonalEstimator: {"layer_collection"},
    LayerCollection: {"variables", "layers", "parts"},
    LayerRegistration: {"params", "block"},
}
"""Class -> the fields that a state depends on; of a spec, all but its `free_fields`."""


def described(value: Any) -> Any:
    """Return a spec, or the value of a field, as what JSON can hold.

    An object with fields becomes its class, the fields that a state depends on, and
    those that may differ between two specs that share a state.

    Args:
        value: A spec, or what its fields are made of.

    Returns:
        Nested dictionaries, lists, texts and numbers.

    Example:
        >>> from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
        >>> described(FullyConnectedKroneckerFactor(3))["fields"]["size"]
        3
    """
    if isinstance(value, Enum):
        return {"member": f"{type(value).__name__}.{value.name}"}
    if isinstance(value, np.generic):
        return described(value.item())
    if value is None or isinstance(value, bool):
        return value
    # What is read again is of these classes themselves, and compares as they do.
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {"number": repr(value)}
    if isinstance(value, tuple | list):
        return [described(each) for each in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted(map(repr, value))}
    if isinstance(value, Mapping):
        return {"mapping": [[str(key), described(x)] for key, x in value.items()]}
    if not is_dataclass(value) or isinstance(value, type):
        return {"object": getattr(value, "__qualname__", type(value).__qualname__)}
    own: Any = value
    everything = {
        f.name: described(getattr(own, f.name)) for f in fields(own) if f.init
    }
    bound = _bound_fields(own, everything)
    free = {name: x for name, x in everything.items() if name not in bound}
    return {"class": type(own).__qualname__, "fields": bound, "free": free}


def _bound_fields(value: Any, everything: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a state depends on."""
    if isinstance(value, Spec):
        return {k: x for k, x in everything.items() if k not in value.free_fields}
    for cls, names in _BOUND.items():
        if isinstance(value, cls):
            bound = {name: x for name, x in everything.items() if name in names}
            if isinstance(value, KfacOptions):
                dampings = value.layer_dampings
                form = "one number" if dampings is None else sorted(dampings)
                bound["damping"] = form
            return bound
    kind = getattr(value, "kind", None)  # of what a signature has
    return {"kind": kind} if isinstance(kind, str) else everything
