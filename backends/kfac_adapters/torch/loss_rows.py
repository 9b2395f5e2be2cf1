"""What a model returns as the rows of a loss, ``[cases, classes]``, and back.

A row is along one axis of the outputs, and all others count the cases. An axis that
comes after the last one has length one: then each entry is a case.
"""

import torch


def with_rows_last(outputs: torch.Tensor, class_axis: int) -> torch.Tensor:
    """Return outputs with the rows of the loss along the last axis."""
    if class_axis == outputs.ndim:
        return outputs[..., None]
    return outputs.movedim(class_axis, -1)


def rows_of(outputs: torch.Tensor, class_axis: int) -> torch.Tensor:
    """Return what a loss takes, ``[cases, classes]``, without a graph."""
    moved = with_rows_last(outputs.detach(), class_axis)
    return moved.reshape(-1, moved.shape[-1])


def cases_of(outputs: torch.Tensor, class_axis: int) -> tuple[int, ...]:
    """Return the axes of cases: all but that of a row."""
    return tuple(with_rows_last(outputs, class_axis).shape[:-1])


def like_outputs(
    rows: torch.Tensor, outputs: torch.Tensor, class_axis: int
) -> torch.Tensor:
    """Return rows in the shape of the outputs, as `rows_of` took them from these."""
    moved = rows.reshape(with_rows_last(outputs, class_axis).shape)
    if class_axis == outputs.ndim:
        return moved[..., 0]
    return moved.movedim(-1, class_axis)
