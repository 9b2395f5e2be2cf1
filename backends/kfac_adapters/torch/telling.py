"""What ranks tell each other of any kind: bytes, and errors that all are to raise."""

import pickle
from typing import Any

import torch

from kfac_core import errors
from kfac_core.collectives import Collective
from kfac_core.errors import KfacError


def told_by_all(ranks: Collective, device: torch.device, given: object) -> list[Any]:
    """Return what every rank gives, in their order; each is pickled once.

    Args:
        ranks: The ranks, which all call this.
        device: Where the numbers of the model are.
        given: What this rank tells.

    Returns:
        What all tell.
    """
    own = torch.frombuffer(bytearray(pickle.dumps(given)), dtype=torch.uint8)
    sizes = torch.zeros(ranks.size, dtype=torch.float64, device=device)
    sizes[ranks.rank] = len(own)
    of_all: Any = ranks.all_reduce(sizes)
    found = []
    for root, size in enumerate(of_all.tolist()):
        text = own.to(device)
        if root != ranks.rank:
            text = torch.zeros(int(size), dtype=torch.uint8, device=device)
        sent: Any = ranks.broadcast(text, root)
        found.append(pickle.loads(sent.cpu().numpy().tobytes()))
    return found


def raised_by_all(
    ranks: Collective, device: torch.device, error: KfacError | None
) -> KfacError:
    """Return what this rank is to raise, since some rank has an error.

    Args:
        ranks: The ranks, which all call this.
        device: Where the numbers of the model are.
        error: The error of this rank; None: it has none.

    Returns:
        Its own error, or that of the first rank that has one, of the same class.
    """
    own = None if error is None else (type(error).__name__, str(error))
    of_all = told_by_all(ranks, device, own)
    if error is not None:
        return error
    rank, (kind, text) = next((i, told) for i, told in enumerate(of_all) if told)
    return getattr(errors, kind, KfacError)(f"rank {rank}: {text}")
