"""`Observed`: a pass with the gradients of the user's own backward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from kfac_adapters.torch.linearized import Linearized
from kfac_adapters.torch.registering import LOSS
from kfac_core.linearization import NamedLossInputs
from kfac_core.typing import Array


class Observed:
    """A `kfac_core.Linearization` that pulls nothing back: it has seen it pulled.

    Made when a backward pass reaches the outputs of a model, it keeps what that pass
    brings to the outputs of the layers. What an estimator asks for in the mode
    ``"empirical"`` is a multiple of that, since the user's loss is one of its own.

    Args:
        given: The pass.
        gradient: Gradient of the user's loss for what goes into it, ``[cases, n]``.
        weights: Relative weights of the rows of the loss, ``[cases]``; None: one each.
    """

    def __init__(
        self,
        given: Linearized,
        gradient: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> None:
        self._given, self._gradient, self._weights = given, gradient, weights
        self._seen: dict[int, torch.Tensor] = {}
        self._handles = [
            edge.node.register_prehook(_Catch(self._seen, i, edge.output_nr))
            for i, edge in given.edges
        ]
        self.batch_size = given.batch_size
        self.loss_inputs, self.targets = given.loss_inputs, given.targets
        self.masks = given.masks

    def at_the_end(self, then: Callable[["Observed"], None]) -> None:
        """Call a function with this once the backward pass is over."""

        def end() -> None:
            for handle in self._handles:
                handle.remove()
            then(self)

        engine: Any = torch.autograd.Variable._execution_engine
        engine.queue_callback(end)

    @property
    def layer_inputs(self) -> Mapping[str, Array]:
        """Those of the pass."""
        return self._given.layer_inputs

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Return what was seen, times what takes the user's gradient to the vectors."""
        vector: Any = vectors[LOSS]
        seen = self._gradient.to(vector.dtype)
        if self._weights is not None:
            vector = vector * self._weights[:, None]
        along = (vector * seen).sum()
        # Where all is zero, so is what was seen.
        nonzero = torch.where(along == 0, torch.ones_like(along), along)
        factor = self._given.root * (vector * vector).sum() / nonzero
        return self._given.at_outputs({i: factor * g for i, g in self._seen.items()})

    @property
    def row_counts(self) -> Mapping[str, Array]:
        """Those of the pass, of what was seen."""
        return self._given.row_counts

    def param_gradients(self, vectors: NamedLossInputs, names: Any = None) -> Any:
        """Return those of the pass: no block of this mode takes them."""
        return self._given.param_gradients(vectors, names)

    def push_forward(self, tangents: Any) -> Any:
        """Refuse, as the pass does."""
        return self._given.push_forward(tangents)


class _Catch:
    """A hook that keeps the gradient for one output of a node.

    Args:
        seen: Where to, by the use.
        use: Index of the use.
        place: Which of the node's outputs it is.
    """

    def __init__(self, seen: dict[int, torch.Tensor], use: int, place: int) -> None:
        self._seen, self._use, self._place = seen, use, place

    def __call__(self, gradients: tuple[torch.Tensor | None, ...]) -> None:
        """Keep it, if there is one."""
        gradient = gradients[self._place]
        if gradient is not None:
            self._seen[self._use] = gradient.detach()
