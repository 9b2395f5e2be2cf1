"""The rules of normalisations: a weight times what is normalised, plus a bias."""

from typing import Any

import torch
from torch.nn import functional

from kfac_adapters.torch.rules.call import Call
from kfac_adapters.torch.rules.elementwise import scaled


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


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    """Read a call of `torch.nn.functional.instance_norm`."""
    if weight is None:
        return None
    mean, var = (None, None) if use_input_stats else (running_mean, running_var)
    with torch.no_grad():
        x = functional.instance_norm(
            input.detach(), mean, var, None, None, use_input_stats, 0.0, eps
        )
    return scaled(x, weight, bias, (1,))


def _last(x: torch.Tensor, count: int) -> tuple[int, ...]:
    return tuple(range(x.ndim - count, x.ndim))
