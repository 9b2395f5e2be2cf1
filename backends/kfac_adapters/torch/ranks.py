"""Which ranks a model is trained on, and what each draws from."""

import hashlib
from typing import Any

import torch

from kfac_adapters.torch.process_group import ProcessGroup
from kfac_core.collectives import Collective, SingleProcess
from kfac_core.errors import ArgumentError


def ranks_of(model: torch.nn.Module, given: Any, label: str) -> Collective:
    """Return the ranks that share statistics and inverses.

    Args:
        model: The model; one in ``DistributedDataParallel`` has its process group.
        given: What the user gave; None: what the model says.
        label: Who asks, for messages.

    Returns:
        The ranks.

    Raises:
        ArgumentError: If what was given is no collective.
    """
    if given is not None:
        if not isinstance(given, Collective):
            msg = (
                f"{label}: collective is a {type(given).__name__}, expected something"
                " with rank, size, all_reduce and broadcast, such as"
                " kfac_adapters.torch.ProcessGroup()"
            )
            raise ArgumentError(msg)
        return given
    for module in model.modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if "DistributedDataParallel" in kinds:
            return ProcessGroup(module.process_group)
    return SingleProcess()


def generator_of(
    device: torch.device, seed: int, step: int, passes: int, rank: int
) -> torch.Generator:
    """Return what a pass of one of several ranks draws from.

    It follows from the arguments alone, so that a run which goes on from a file of any
    rank draws as it would have without the interruption, and no two ranks draw alike.

    Args:
        device: Where to draw.
        seed: The user's.
        step: Number of the step.
        passes: Number of the pass in it.
        rank: Number of the rank.

    Returns:
        The generator.
    """
    text = f"{seed} {step} {passes} {rank}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
    return torch.Generator(device).manual_seed(number)
