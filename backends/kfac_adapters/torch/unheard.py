"""Backward passes that hooks on tensors, and gradients that are kept, do not see.

The graph of a user's pass is gone through once more for the statistics. Hooks that a
user has put on tensors in it, to look at gradients or to change them, are for those of
the loss; and so is what `torch.Tensor.retain_grad` keeps.
"""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.autograd.graph import GradientEdge

Hooks: TypeAlias = dict[int, Any]
"""The hooks on one tensor, as its place in the graph has them."""


@dataclass
class Hearers:
    """Who hears of the gradients of a graph; it keeps no tensor alive.

    Attributes:
        tensors: The tensors in it.
        hooks: The hooks on some of them, which outlive these.
    """

    tensors: list[weakref.ref[torch.Tensor]] = field(default_factory=list)
    hooks: list[Hooks] = field(default_factory=list)

    def add(self, tensor: torch.Tensor) -> None:
        """Add a tensor, and the hooks that are on it."""
        self.tensors.append(weakref.ref(tensor))
        if tensor._backward_hooks is not None:
            self.hooks.append(tensor._backward_hooks)

    def pulled(
        self,
        edge: GradientEdge,
        vector: torch.Tensor,
        to: Sequence[Any],
        leaves: Iterable[torch.Tensor],
    ) -> Sequence[torch.Tensor | None]:
        """Return what a vector gives in a backward pass that none of them hears of.

        Args:
            edge: Where the graph ends.
            vector: What is pulled back from there.
            to: Tensors and edges to pull it back to.
            leaves: Leaves of the graph, whose hooks do not hear either.

        Returns:
            The gradient for each; None where no path leads to.
        """
        with self._unheard(leaves):
            found: Sequence[torch.Tensor | None] = torch.autograd.grad(
                [edge], to, [vector], retain_graph=True, allow_unused=True
            )
        return found

    @contextmanager
    def _unheard(self, leaves: Iterable[torch.Tensor]) -> Iterator[None]:
        """Let none of them, nor leaves of the graph, hear of backward passes within."""
        alive = [x for own in self.tensors if (x := own()) is not None]
        all_hooks = [*self.hooks]
        all_hooks += [own for x in (*alive, *leaves) if (own := x._backward_hooks)]
        hooks = [(own, {**own}) for own in {id(x): x for x in all_hooks}.values()]
        kept = [(x, x.grad) for x in alive if x.retains_grad]
        for own, _ in hooks:
            own.clear()
        for x, _ in kept:
            x.grad = None
        try:
            yield
        finally:
            for own, before in hooks:
                own.update(before)
            for x, grad in kept:
                x.grad = grad
