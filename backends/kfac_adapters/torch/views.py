"""Slices and transposes of parameters, as PyTorch makes them: views of one storage."""

from typing import NamedTuple

import torch

from kfac_core.layer_collection.parts import Part


class View(NamedTuple):
    """A view of a parameter that a layer may have as its weight or bias.

    Attributes:
        name: Name of the parameter, or of its part.
        part: The part; None: it is all of it.
        is_transposed: Whether its last two axes are exchanged.
        is_reshaped: Whether it has other axes of length one.
    """

    name: str
    part: Part | None = None
    is_transposed: bool = False
    is_reshaped: bool = False


def view_of(tensor: torch.Tensor, param: torch.Tensor, name: str) -> View | None:
    """Return which view of a parameter a tensor is.

    Args:
        tensor: Whatever a function made of it.
        param: The parameter.
        name: Its name.

    Returns:
        The view: all of it, perhaps transposed or with axes of length one, or some of
        its first axis, perhaps one index; None for any other tensor.
    """
    if not tensor.requires_grad or tensor._base is not param:
        return None
    found = _part_of(tensor, param, name)
    if found is None and tensor.ndim >= 2:
        of_transpose = _part_of(tensor.mT, param, name)
        if of_transpose is not None:
            return of_transpose._replace(is_transposed=True)
    if found is None and _are_alike(tensor, param):
        return View(name, is_reshaped=True)
    return found


def _are_alike(tensor: torch.Tensor, param: torch.Tensor) -> bool:
    """Return whether two tensors differ in axes of length one alone."""
    axes = [[n for n in x.shape if n != 1] for x in (tensor, param)]
    return axes[0] == axes[1] and tensor.is_contiguous() and param.is_contiguous()


def _part_of(tensor: torch.Tensor, param: torch.Tensor, name: str) -> View | None:
    offset = tensor.storage_offset() - param.storage_offset()
    same = tensor.stride() == param.stride()
    if same and tensor.shape == param.shape and offset == 0:
        return View(name)
    if param.ndim == 0 or not param.is_contiguous():
        return None
    start, rest = divmod(offset, param.stride(0))
    if rest or start < 0:
        return None
    if same and tensor.shape[1:] == param.shape[1:]:
        stop = start + tensor.shape[0]
        return _cut(name, start, stop, f"{start}:{stop}")
    stacked = tensor.stride() == param.stride()[1:]
    if stacked and tensor.shape == param.shape[1:]:
        return _cut(name, start, start + 1, f"{start}")
    return None


def _cut(name: str, start: int, stop: int, place: str) -> View:
    own = f"{name}[{place}]"
    return View(own, Part(own, name, 0, start, stop, ":" not in place))
