"""A step of one parameter: momentum, weight decay, and the direction."""

from collections.abc import Mapping
from typing import Any

import torch


def move(
    param: torch.Tensor,
    own: dict[str, Any],
    direction: torch.Tensor,
    group: Mapping[str, Any],
) -> None:
    """Add a direction to a parameter's velocity, and that to the parameter.

    Args:
        param: The parameter, which is changed.
        own: What the optimiser keeps of it, which is changed.
        direction: The direction.
        group: Its parameter group.
    """
    half = direction.dtype.itemsize < 4
    velocity = direction.float() if half else direction
    if group["momentum"]:
        if "velocity" in own:
            velocity = torch.add(velocity, own["velocity"], alpha=group["momentum"])
        own["velocity"] = velocity
    if group["weight_decay"]:
        param.mul_(1 - group["lr"] * group["weight_decay"])
    param.add_(velocity.to(param.dtype), alpha=-group["lr"])
