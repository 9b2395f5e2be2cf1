"""A model on trial: its linearization, and random vectors for it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kfac_core.backend import Backend
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import inner
from kfac_core.linearization import Model
from kfac_core.linearization.checked import CheckedLinearization, checked
from kfac_core.loss_functions.positions import input_arrays, like_inputs
from kfac_core.registered_losses import losses_at
from kfac_core.registry import backend_of
from kfac_core.typing import Array

TOLERANCE = 1e4
"""How many units of roundoff two ways to one number may differ by."""


class Tried:
    """A model on trial, at some parameters and a batch."""

    def __init__(
        self, model: Model[Any], collection: LayerCollection, params: Any, batch: Any
    ) -> None:
        self.collection, self.params = collection, params
        self.model, self.batch = model, batch
        self.backend: Backend = backend_of(*params.values())
        self.known = self.linearized(params)
        self.rng = np.random.default_rng(0)
        eps = float(self.backend.xp.finfo(next(iter(params.values())).dtype).eps)
        self.tolerance = TOLERANCE * eps

    def linearized(self, params: Any) -> CheckedLinearization:
        """Return the model at some parameters."""
        return checked(self.collection, self.model.linearize(params, self.batch))

    def random(self, like: Array) -> Array:
        """Return random numbers beside an array."""
        values = self.rng.standard_normal(tuple(like.shape))
        bare = self.backend.stop_gradient(like)
        dtype = self.backend.to_numpy(bare[..., :0] if like.shape else bare).dtype
        device = self.backend.creation_device(like)
        return self.backend.from_numpy(values.astype(dtype), device)

    def vectors(self) -> dict[str, Any]:
        """Return random vectors at the inputs of all losses."""
        return {
            at.site: like_inputs(
                at.inputs, [self.random(x) for x in input_arrays(at.inputs)]
            )
            for at in losses_at(self.collection, self.known)
        }

    def product(self, x: Mapping[str, Any], y: Mapping[str, Any]) -> float:
        """Return the inner product of two vectors by name."""
        total = 0.0
        for name in x:
            for a, b in zip(input_arrays(x[name]), input_arrays(y[name]), strict=True):
                total += self.number(inner(self.backend, {"": a}, {"": b}))
        return total

    def number(self, x: Array) -> float:
        """Return the value of a 0-d array."""
        return float(self.backend.to_numpy(self.backend.stop_gradient(x)))

    def size(self, x: Mapping[str, Any]) -> float:
        """Return the length of a vector by name."""
        return float(np.sqrt(self.product(x, x)))
