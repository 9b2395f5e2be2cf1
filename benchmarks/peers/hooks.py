"""K-FAC as one writes it by hand for PyTorch: hooks, ``a.T @ a``, Cholesky."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers import kfac_pytorch_style as style


class HandWritten:
    """Statistics of the user's own gradients, in hooks on linear layers and images.

    Args:
        model: Its layers are linear ones and convolutions with a bias.
        lr: Learning rate.
        damping: Added to each factor, in its root.
        cov_every: Every how many steps there are statistics.
        invert_every: Every how many steps there are inverses.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        damping: float,
        cov_every: int,
        invert_every: int,
    ) -> None:
        self._lr, self._root = lr, damping**0.5
        self._cov_every, self._invert_every = cov_every, invert_every
        self._steps = 0
        kinds = (nn.Linear, nn.Conv2d)
        self._layers = [m for m in model.modules() if isinstance(m, kinds)]
        self._factors: dict[nn.Module, Any] = {}
        self._inverses: dict[nn.Module, Any] = {}
        self._velocity: dict[nn.Module, torch.Tensor] = {}
        for layer in self._layers:
            layer.register_forward_hook(self._forward)

    @torch.no_grad()
    def step(self) -> None:
        """Take a step, with momentum."""
        if self._steps % self._invert_every == 0:
            for layer, pair in self._factors.items():
                self._inverses[layer] = tuple(
                    torch.cholesky_inverse(
                        torch.linalg.cholesky(style.damped(torch, factor, self._root))
                    )
                    for factor in pair
                )
        for layer in self._layers:
            weight, bias = layer.weight, layer.bias
            gradient = torch.cat([weight.grad.flatten(1), bias.grad[:, None]], 1)
            a, g = self._inverses[layer]
            direction = g @ gradient @ a
            velocity = 0.9 * self._velocity.get(layer, 0) + direction
            self._velocity[layer] = velocity
            weight.add_(velocity[:, :-1].reshape(weight.shape), alpha=-self._lr)
            bias.add_(velocity[:, -1], alpha=-self._lr)
        self._steps += 1

    def _is_due(self) -> bool:
        return self._steps % self._cov_every == 0

    def _forward(self, layer: Any, inputs: Any, outputs: torch.Tensor) -> None:
        if self._is_due():
            x = inputs[0].detach()
            outputs.register_hook(lambda g: self._backward(layer, x, g))

    def _backward(self, layer: Any, x: torch.Tensor, g: torch.Tensor) -> None:
        cases = g.shape[0]
        if isinstance(layer, nn.Conv2d):
            x = functional.unfold(x, layer.kernel_size, 1, layer.padding, layer.stride)
            x = x.movedim(1, -1).flatten(0, 1)
            g = g.movedim(1, -1).flatten(0, 2)
        a = style.second_moment(torch, x, has_bias=True)
        new = (a, style.second_moment(torch, g) * cases**2)
        old = self._factors.get(layer, new)
        self._factors[layer] = tuple(
            0.95 * one + 0.05 * other for one, other in zip(old, new, strict=True)
        )
