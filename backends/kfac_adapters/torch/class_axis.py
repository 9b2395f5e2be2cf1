"""Which axis of a model's outputs one row of a cross-entropy is along."""

import torch

from kfac_adapters.torch.log_probabilities import are_log_probabilities
from kfac_adapters.torch.losses import GivenLoss, recognised
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    LossFunction,
    OnehotCategoricalLogitsNegativeLogProbLoss,
)


def found_axis(
    outputs: torch.Tensor,
    gradient: torch.Tensor,
    given: int | None,
    loss: GivenLoss | None,
) -> int:
    """Return the axis of the classes, which the gradient of a cross-entropy tells.

    Over the classes it sums to zero, whatever the labels are. PyTorch has the classes
    of ``[batch, classes, height, width]`` second, and models of text have them last.

    Args:
        outputs: What goes into the loss.
        gradient: Gradient of the user's loss for it.
        given: The axis that the user said; None: none was.
        loss: The loss; None: it is not known yet.

    Returns:
        The axis: that which was given, else 1 if the gradient sums to zero over it and
        not over the last one, else the last one. For outputs of one axis, of which each
        entry is a case, the axis after it.

    Raises:
        ArgumentError: If the loss is a cross-entropy, and the axis that was given is
            not that of the classes, and another one is.
    """
    if given is None and outputs.ndim == 1:
        return _axis_of_entries(outputs, gradient, loss)
    of_classes = CategoricalLogitsNegativeLogProbLoss
    known = loss is None or isinstance(loss.function, of_classes)
    if outputs.ndim < 3 or not known or not gradient.isfinite().all():
        return -1 if given is None else given
    axis = -1 if given is None else given
    other = 1 if axis % outputs.ndim == outputs.ndim - 1 else -1
    if _is_of_classes(outputs, gradient, axis):
        return axis
    if not _is_of_classes(outputs, gradient, other):
        return axis
    if given is None:
        return other
    msg = (
        f"class_axis is {given}, but the gradient of the loss for the model's outputs,"
        f" of shape {list(outputs.shape)}, sums to zero over axis {other} and not over"
        f" it, as that of a cross-entropy does over the classes; say class_axis={other}"
    )
    raise ArgumentError(msg)


def default_axis(outputs: torch.Tensor, loss: LossFunction | None) -> int:
    """Return the axis that no gradient tells: the last, or that after the only one.

    A model that returns one number for each case may return these without an axis of
    length one, ``[cases]``. Logits without such an axis are those of a single case.
    """
    of_classes = isinstance(loss, OnehotCategoricalLogitsNegativeLogProbLoss)
    return -1 if outputs.ndim != 1 or of_classes else 1


def _axis_of_entries(
    outputs: torch.Tensor, gradient: torch.Tensor, loss: GivenLoss | None
) -> int:
    if loss is not None:
        return default_axis(outputs, loss.function)
    try:
        recognised(outputs[:, None], gradient[:, None], "mean")
    except UnsupportedError:
        return -1  # perhaps classes of a single case
    return 1


def _is_of_classes(outputs: torch.Tensor, gradient: torch.Tensor, axis: int) -> bool:
    return _sums_to_zero(gradient, axis) or are_log_probabilities(outputs, axis)


def _sums_to_zero(gradient: torch.Tensor, axis: int) -> bool:
    size = gradient.shape[axis]
    terms = gradient.double()
    eps = max(torch.finfo(gradient.dtype).eps, torch.finfo(torch.float32).eps)
    slack = 16 * eps * size * terms.abs().amax(axis)
    return bool(size > 1 and (terms.sum(axis).abs() <= slack).all())
