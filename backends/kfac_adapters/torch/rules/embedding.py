"""The rules of embeddings, one id a position, and of bags, the sum or mean of some."""

from typing import Any

import torch
from torch.nn import functional

from kfac_adapters.torch.rules.call import Call

_INTEGERS = (torch.int64, torch.int32)
_NO_ID = -1
"""What stands for no id, where bags have different lengths."""


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
    padding = _padding(padding_idx, weight)

    def computes(ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, w, padding)

    return Call(
        "embedding",
        weight,
        None,
        input,
        0,
        computes,
        options={"padding_id": padding},
        refused=_refusal(max_norm, scale_grad_by_freq, sparse),
    )


def indexed(args: Any, kwargs: Any, shape: tuple[int, ...]) -> Call | None:
    """Read ``weight[ids]`` or ``weight[:, ids]`` of a matrix; None of other indices."""
    weight, ids = args
    if isinstance(ids, tuple) and len(ids) == 1:
        (ids,) = ids
    of_columns = isinstance(ids, tuple) and len(ids) == 2 and ids[0] == slice(None)
    if of_columns:
        ids = ids[1]
    if not isinstance(ids, torch.Tensor) or ids.dtype not in _INTEGERS:
        return None
    if len(shape) != 2 or tuple(weight.shape) != shape:
        return None
    # An index of Python counts from the end, too.
    if not of_columns:
        return embedding(ids.remainder(shape[0]), weight)
    return Call(
        "embedding",
        weight,
        None,
        ids.remainder(shape[1]),
        0,
        lambda own, w: w.mT[own],
        lambda gradient: gradient.movedim(0, -1),
        options={"layout": "out_in"},
    )


def index_select(args: Any, kwargs: Any, shape: tuple[int, ...]) -> Call | None:
    """Read ``weight.index_select(axis, ids)``; as `indexed`."""
    if kwargs or len(args) != 3 or args[1] not in (0, 1):
        return None
    weight, axis, ids = args
    return indexed((weight, (slice(None), ids) if axis else ids), kwargs, shape)


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Call:
    """Read a call of `torch.nn.functional.embedding_bag`.

    A bag is one position with several ids: the layer ``x V`` of their counts ``x``. A
    mean divides the gradient, and not the counts. With weights for each id, each id is
    a position of its own.

    Returns:
        The call.
    """
    refused = _refusal(max_norm, scale_grad_by_freq, sparse)
    if mode == "max":
        refused = "the largest of a bag is no sum"
    if input.is_nested:
        return Call("embedding", weight, None, input, 0, _bag, refused="it is nested")
    ids, weights = input, per_sample_weights
    if input.ndim == 1:
        places = _places(offsets, len(input), include_last_offset)
        ids = torch.where(places < 0, _NO_ID, functional.pad(input, (0, 1))[places])
        weights = None if weights is None else functional.pad(weights, (0, 1))[places]
    padding = _padding(padding_idx, weight)
    if padding is not None:
        ids = torch.where(ids == padding, _NO_ID, ids)
    known = ids != _NO_ID
    options = {"negative_ids_are_padding": True}
    if weights is not None:
        each = (weights.detach() * known)[..., None]
        return Call(
            "embedding",
            weight,
            None,
            ids,
            0,
            _each,
            lambda g: each * g[:, None],
            options=options,
            refused=refused,
        )
    counts = known.sum(-1, keepdim=True).clamp(min=1)
    return Call(
        "embedding",
        weight,
        None,
        ids,
        1,
        _bag,
        lambda g: g / counts if mode == "mean" else g,
        options={**options, "repeated_ids": "count_squared"},
        refused=refused,
    )


def _each(ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    known = (ids != _NO_ID)[..., None]
    return functional.embedding(ids.clamp(min=0), w) * known


def _bag(ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return _each(ids, w).sum(-2)


def _places(offsets: Any, size: int, include_last: bool) -> torch.Tensor:
    """Return where the ids of each bag are, ``[bags, longest]``; -1: nowhere."""
    ends = offsets[1:]
    if include_last:
        offsets = offsets[:-1]
    else:
        ends = torch.cat([ends, ends.new_full((1,), size)])
    longest = max(int((ends - offsets).max()), 1) if len(offsets) else 1
    places = offsets[:, None] + torch.arange(longest, device=offsets.device)
    return torch.where(places < ends[:, None], places, -1)


def _refusal(max_norm: float | None, scale_grad_by_freq: bool, sparse: bool) -> str:
    """Return why an embedding of these options has no block, or an empty text."""
    if max_norm is not None:
        return "max_norm changes the weights within the model"
    if scale_grad_by_freq:
        return "scale_grad_by_freq makes its gradients those of no loss"
    return "its gradients are sparse" if sparse else ""


def _padding(padding_idx: int | None, weight: torch.Tensor) -> int | None:
    """Return the id that stands for none, which PyTorch counts from the end, too."""
    if padding_idx is not None and padding_idx < 0:
        return padding_idx + int(weight.shape[0])
    return padding_idx
