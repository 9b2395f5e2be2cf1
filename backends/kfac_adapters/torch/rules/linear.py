"""The rule of linear layers."""

from typing import Any

from torch.nn import functional

from kfac_adapters.torch.rules.call import Call


def linear(input: Any, weight: Any, bias: Any = None) -> Call:
    """Read a call of `torch.nn.functional.linear`."""
    return Call("linear", weight, bias, input, 1, functional.linear)
