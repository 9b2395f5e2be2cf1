"""The rule of embeddings."""

from typing import Any

import torch
from torch.nn import functional

from kfac_adapters.torch.rules.call import Call


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Call:
    """Read a call of `torch.nn.functional.embedding`."""
    refused = refusal(max_norm, scale_grad_by_freq, sparse)
    padding = padding_id(padding_idx, weight)

    def computes(ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, w, padding)

    options = {"padding_id": padding}
    return Call("embedding", weight, None, input, 0, computes, options, refused=refused)


def refusal(max_norm: float | None, scale_grad_by_freq: bool, sparse: bool) -> str:
    """Return why an embedding of these options has no block, or an empty text."""
    if max_norm is not None:
        return "max_norm changes the weights within the model"
    if scale_grad_by_freq:
        return "scale_grad_by_freq makes its gradients those of no loss"
    return "its gradients are sparse" if sparse else ""


def padding_id(padding_idx: int | None, weight: torch.Tensor) -> int | None:
    """Return the id that stands for none, which PyTorch counts from the end, too."""
    if padding_idx is not None and padding_idx < 0:
        return padding_idx + int(weight.shape[0])
    return padding_idx
