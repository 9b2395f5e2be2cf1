"""PyTorch hears of the classes of states: `torch.load` and `torch.export` know them."""

import torch
from torch.utils import _pytree

from kfac_core.state_classes import listen


def register(part: type, name: str) -> None:
    """Let PyTorch load what a pickle of a state refers to, and store trees of it.

    Args:
        part: A class of named tuples, or a function that pickles call.
        name: The name to store it by.
    """
    torch.serialization.add_safe_globals([part])
    # It has no public name, and without it `torch.export.save` refuses named tuples.
    by_name = getattr(_pytree, "_register_namedtuple", None)
    if by_name is not None and isinstance(part, type):
        by_name(part, serialized_type_name=name)


def listen_for_states() -> None:
    """Register all that trees of states are made of, what comes included."""
    listen(register)
