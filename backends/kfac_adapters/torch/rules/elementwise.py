"""The rules of weights and biases that are broadcast: ``w * x`` and ``x + b``."""

from dataclasses import replace
from typing import Any, TypeAlias

import torch

from kfac_adapters.torch.rules.call import Call

Shape: TypeAlias = tuple[int, ...]


def scaled(
    x: torch.Tensor, weight: Any, bias: Any, own: Shape, shape: Shape | None = None
) -> Call:
    """Return the call of ``w * x + b``.

    Args:
        x: What the weight is multiplied by, of the shape of the outputs.
        weight: The weight.
        bias: The bias, or None.
        own: The axes of the outputs that weight and bias are along.
        shape: The shape of both; None: that of the weight.

    Returns:
        The call.
    """
    shape = tuple(weight.shape) if shape is None else shape

    def pulls(gradient: torch.Tensor) -> torch.Tensor:
        return _arranged(gradient, own, shape)

    inputs = pulls(x.detach())
    return Call("scale", weight, bias, inputs, len(shape), torch.mul, pulls, pulls)


def scale(x: torch.Tensor, weight: torch.Tensor, shape: Shape) -> Call | None:
    """Read ``x * weight``, of any broadcasting; None if it has a single position.

    Args:
        x: What the weight is multiplied by.
        weight: The weight, perhaps with further axes of length one.
        shape: The shape that it has itself.

    Returns:
        The call.
    """
    whole = torch.broadcast_shapes(x.shape, weight.shape)
    own = _own_axes(whole, weight)
    if len(own) == len(whole):
        return None
    return scaled(x.expand(whole), weight, None, own, shape)


def shift(x: torch.Tensor, bias: torch.Tensor, shape: Shape) -> Call | None:
    """Read ``x + bias``, of any broadcasting; as `scale`."""
    return _added(bias, torch.broadcast_shapes(x.shape, bias.shape), shape)


def minus(x: torch.Tensor, bias: torch.Tensor, shape: Shape) -> Call | None:
    """Read ``x - bias``; as `shift`."""
    call = shift(x, bias, shape)
    if call is None:
        return None
    added = call.pulls_bias
    return replace(call, pulls_bias=lambda gradient: -added(gradient))


def divided(x: torch.Tensor, weight: torch.Tensor, shape: Shape) -> Call | None:
    """Read ``x / weight``, whose derivative by the weight is ``-x / weight^2``."""
    w = weight.detach()
    return scale(-x.detach() / w.square(), weight, shape)


def divides(weight: torch.Tensor, x: torch.Tensor, shape: Shape) -> Call | None:
    """Read ``weight / x``; as `scale`."""
    return scale(1 / x.detach(), weight, shape)


def subtracts(bias: torch.Tensor, x: torch.Tensor, shape: Shape) -> Call | None:
    """Read ``bias - x``; as `shift`."""
    return shift(x, bias, shape)


def expand(args: Any, kwargs: Any, shape: Shape) -> Call | None:
    """Read ``bias.expand(...)``, which is added to nothing, as a first token is."""
    bias, *sizes = args
    return _added(bias, tuple(bias.detach().expand(*sizes, **kwargs).shape), shape)


def repeat(args: Any, kwargs: Any, shape: Shape) -> Call | None:
    """Read ``bias.repeat(...)``; None if an axis that it has is repeated."""
    bias, *sizes = args
    whole = tuple(bias.detach().repeat(*sizes, **kwargs).shape)
    fits = torch.broadcast_shapes(whole, bias.shape) if bias.ndim else whole
    return _added(bias, whole, shape) if tuple(fits) == whole else None


def _added(bias: torch.Tensor, whole: Shape, shape: Shape) -> Call | None:
    own = _own_axes(whole, bias)
    if len(own) == len(whole):
        return None

    def pulls_bias(gradient: torch.Tensor) -> torch.Tensor:
        return _arranged(gradient, own, shape)

    nothing = bias.detach().new_zeros(()).expand(whole)
    return Call("shift", None, bias, nothing, 0, torch.mul, pulls_bias=pulls_bias)


def prelu(input: Any, weight: Any) -> Call:
    """Read a call of `torch.prelu`: ``max(x, 0) + w * min(x, 0)``."""
    own = (1,) if weight.numel() > 1 else ()
    return scaled(input.detach().clamp(max=0), weight, None, own)


def _own_axes(shape: Shape, weight: torch.Tensor) -> Shape:
    """Return the axes of the outputs that a weight is not broadcast along.

    Those where it has length one are never among them: a batch of one case is one, too.
    """
    first = len(shape) - weight.ndim
    return tuple(first + i for i, size in enumerate(weight.shape) if size != 1)


def _arranged(x: torch.Tensor, own: Shape, shape: Shape) -> torch.Tensor:
    """Return an array with the axes of a parameter last, in its shape."""
    moved = x.movedim(own, tuple(range(-len(own), 0)))
    return moved.reshape(*moved.shape[: x.ndim - len(own)], *shape)
