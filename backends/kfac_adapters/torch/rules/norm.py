"""The rules of normalisations: a weight times what is normalised, plus a bias."""

from typing import Any

import torch
from torch.nn import functional

from kfac_adapters.torch.rules.call import Call


def layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Call | None:
    """Read a call of `torch.nn.functional.layer_norm`."""
    if weight is None:
        return None
    with torch.no_grad():
        x = functional.layer_norm(input.detach(), normalized_shape, None, None, eps)
    return scaled(x, weight, bias, _last(x, len(normalized_shape)))


def rms_norm(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Call | None:
    """Read a call of `torch.nn.functional.rms_norm`."""
    if weight is None:
        return None
    with torch.no_grad():
        x = functional.rms_norm(input.detach(), normalized_shape, None, eps)
    return scaled(x, weight, None, _last(x, len(normalized_shape)))


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    """Read a call of `torch.nn.functional.batch_norm`."""
    if weight is None:
        return None
    # Without running statistics: those of the model are changed once.
    mean, var = (None, None) if training else (running_mean, running_var)
    with torch.no_grad():
        x = functional.batch_norm(
            input.detach(), mean, var, None, None, training, 0.0, eps
        )
    return scaled(x, weight, bias, (1,))


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Call | None:
    """Read a call of `torch.nn.functional.group_norm`."""
    if weight is None:
        return None
    with torch.no_grad():
        x = functional.group_norm(input.detach(), num_groups, None, None, eps)
    return scaled(x, weight, bias, (1,))


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

    def pulls(gradient: torch.Tensor) -> torch.Tensor:
        return gradient.movedim(own, tuple(range(-len(own), 0)))

    return Call("norm", weight, bias, pulls(x), len(own), torch.mul, pulls)


def _last(x: torch.Tensor, count: int) -> tuple[int, ...]:
    return tuple(range(x.ndim - count, x.ndim))
