"""The rules of weights and biases that are broadcast: ``w * x`` and ``x + b``."""

from typing import Any

import torch

from kfac_adapters.torch.rules.call import Call


def scaled(x: torch.Tensor, weight: Any, bias: Any, own: tuple[int, ...]) -> Call:
    """Return the call of ``w * x + b``.

    Args:
        x: What the weight is multiplied by, of the shape of the outputs.
        weight: The weight.
        bias: The bias, or None.
        own: The axes of the outputs that weight and bias are along.

    Returns:
        The call.
    """
    shape = tuple(weight.shape)

    def pulls(gradient: torch.Tensor) -> torch.Tensor:
        return _arranged(gradient, own, shape)

    inputs = pulls(x.detach())
    return Call("scale", weight, bias, inputs, len(shape), torch.mul, pulls, pulls)


def scale(x: torch.Tensor, weight: torch.Tensor) -> Call | None:
    """Read ``x * weight``, of any broadcasting; None if it has a single position."""
    shape = torch.broadcast_shapes(x.shape, weight.shape)
    own = _own_axes(shape, weight)
    if len(own) == len(shape):
        return None
    return scaled(x.expand(shape), weight, None, own)


def shift(x: torch.Tensor, bias: torch.Tensor) -> Call | None:
    """Read ``x + bias``, of any broadcasting; None if it has a single position."""
    shape, bias_shape = torch.broadcast_shapes(x.shape, bias.shape), tuple(bias.shape)
    own = _own_axes(shape, bias)
    if len(own) == len(shape):
        return None

    def pulls_bias(gradient: torch.Tensor) -> torch.Tensor:
        return _arranged(gradient, own, bias_shape)

    nothing = x.new_zeros(()).expand(shape)
    return Call("shift", None, bias, nothing, 0, torch.mul, pulls_bias=pulls_bias)


def prelu(input: Any, weight: Any) -> Call:
    """Read a call of `torch.prelu`: ``max(x, 0) + w * min(x, 0)``."""
    own = (1,) if weight.numel() > 1 else ()
    return scaled(input.detach().clamp(max=0), weight, None, own)


def _own_axes(shape: tuple[int, ...], weight: torch.Tensor) -> tuple[int, ...]:
    """Return the axes of the outputs that a weight is not broadcast along.

    Those where it has length one are never among them: a batch of one case is one, too.
    """
    first = len(shape) - weight.ndim
    return tuple(first + i for i, size in enumerate(weight.shape) if size != 1)


def _arranged(
    x: torch.Tensor, own: tuple[int, ...], shape: tuple[int, ...]
) -> torch.Tensor:
    """Return an array with the axes of a parameter last, in its shape."""
    moved = x.movedim(own, tuple(range(-len(own), 0)))
    return moved.reshape(*moved.shape[: x.ndim - len(own)], *shape)
