"""`Scaled`: a linearization whose loss is multiplied by a number."""

from collections.abc import Mapping
from typing import Any

import torch

from kfac_adapters.torch.linearized import Linearized
from kfac_core.linearization import NamedLossInputs, NamedParams
from kfac_core.typing import Array


class Scaled:
    """A pass whose statistics are those of a multiple of the mean loss.

    What an estimator pulls back has the root of it, as it has that of a coefficient.

    Args:
        given: The pass.
        scale: The multiple, 0-d, not negative.
    """

    def __init__(self, given: Linearized, scale: torch.Tensor) -> None:
        self._given, self._root = given, scale.sqrt()
        self.batch_size = given.batch_size
        self.loss_inputs, self.targets = given.loss_inputs, given.targets
        self.masks = given.masks

    @property
    def layer_inputs(self) -> Mapping[str, Array]:
        """Those of the pass."""
        return self._given.layer_inputs

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Pull the scaled vectors back to the outputs of the layers."""
        return self._given.output_gradients(self._scaled(vectors))

    def param_gradients(self, vectors: NamedLossInputs) -> NamedParams:
        """Pull the scaled vectors back to the parameters."""
        return self._given.param_gradients(self._scaled(vectors))

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Refuse, as the pass does."""
        return self._given.push_forward(tangents)

    def _scaled(self, vectors: NamedLossInputs) -> dict[str, Any]:
        return {site: vector * self._root for site, vector in vectors.items()}
