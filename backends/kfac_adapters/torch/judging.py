"""`Judge`: what the gradient of the user's loss says of a pass."""

from dataclasses import dataclass

import torch

from kfac_adapters.torch.class_axis import found_axis
from kfac_adapters.torch.log_probabilities import (
    are_log_probabilities,
    as_for_logits,
)
from kfac_adapters.torch.loss_rows import rows_of
from kfac_adapters.torch.losses import (
    GivenLoss,
    Reduction,
    is_equal,
    label_weights,
    recognised,
    targets_of,
)
from kfac_core.errors import UnsupportedError
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss


@dataclass(frozen=True)
class Judged:
    """What is known of the loss of a pass.

    Attributes:
        class_axis: The axis of the outputs that a row of the loss is along.
        loss: The loss of a row, and how the user's is reduced.
        gradient: Gradient of the user's loss for what goes into it, ``[cases, n]``.
        mask: How much each row counts, ``[cases]``, of mean one; None: one each.
        weights: Weights of the rows in the user's loss, of mean one over those that
            count; None: one each.
        scale: By what the mean over all rows is multiplied in the user's loss, 0-d.
        cases: How many rows count.
        targets: The targets of the data, where they are asked for.
    """

    class_axis: int
    loss: GivenLoss
    gradient: torch.Tensor
    mask: torch.Tensor | None
    weights: torch.Tensor | None
    scale: torch.Tensor
    cases: int
    targets: torch.Tensor | None


class Judge:
    """Judges one pass after another; what all have in common is told by the first.

    Args:
        loss: The loss; None: told by the first gradient.
        reduction: Reduction of the user's loss.
        wants_targets: Whether targets are asked for.
    """

    def __init__(
        self, loss: GivenLoss | None, reduction: Reduction, wants_targets: bool
    ) -> None:
        self._loss, self._reduction = loss, reduction
        self._wants_targets = wants_targets
        self._has_weights: bool | None = None
        self._has_logarithms: bool | None = None
        self._axis: int | None = None

    def __call__(
        self, outputs: torch.Tensor, gradient: torch.Tensor, given_axis: int | None
    ) -> Judged:
        """Return what a gradient says.

        Args:
            outputs: What goes into the loss.
            gradient: Gradient of the user's loss for it.
            given_axis: The axis of both that a row of the loss is along; None: what
                the first gradient tells.

        Returns:
            What is known.

        Raises:
            NotFiniteError: If the loss is to be told by what is not finite.
            UnsupportedError: If something cannot be told.
            ArgumentError: If the given axis is not that of the classes.
        """
        class_axis = self._axis
        if class_axis is None:
            class_axis = found_axis(outputs, gradient, given_axis, self._loss)
        rows, at_rows = rows_of(outputs, class_axis), rows_of(gradient, class_axis)
        if self._has_logarithms is None and at_rows.any():
            known = self._loss is None or _is_of_labels(self._loss)
            self._has_logarithms = known and are_log_probabilities(rows, -1)
        if self._has_logarithms:
            at_rows = as_for_logits(rows, at_rows, -1)
        loss = self._loss or recognised(rows, at_rows, self._reduction)
        self._loss = loss
        counting = (at_rows != 0).any(-1)
        cases = int(counting.sum())
        if self._axis is None and cases and at_rows.isfinite().all():
            self._axis = class_axis
        if self._has_weights is None and cases:
            self._has_weights = self._differ(loss, rows, at_rows)
        single = rows.float() if rows.dtype.itemsize < 4 else rows
        scale = loss.scale(single, counting)
        targets, weights = None, None
        mask = None if cases == len(rows) else counting
        if self._wants_targets:
            targets = targets_of(loss, rows, at_rows, scale)
        if self._has_weights:
            found = label_weights(single, at_rows.to(single.dtype))
            weights = found * (cases / found.sum())
            mask = mask if self._wants_targets else weights
        if mask is not None:
            # Rows that count have the mean weight one, whatever their share is, so that
            # the passes of a step, and of ranks, add up by the numbers of such rows.
            share = max(cases, 1) / len(rows)
            mask, scale = mask.to(single.dtype) / share, scale * share
        return Judged(class_axis, loss, at_rows, mask, weights, scale, cases, targets)

    def _differ(
        self, loss: GivenLoss, rows: torch.Tensor, gradient: torch.Tensor
    ) -> bool:
        """Return whether rows have weights of their own, such as those of classes.

        Raises:
            UnsupportedError: If targets are asked for, and are no labels.
        """
        if not _is_of_labels(loss):
            return False
        equal = is_equal(rows, gradient)
        if equal is None and self._wants_targets:
            msg = (
                "mode='empirical' tells targets from the gradient of the loss, which is"
                " not that of labels: they are smoothed, or are probabilities; take"
                " the mode 'gradients', which needs no targets"
            )
            raise UnsupportedError(msg)
        return equal is False


def _is_of_labels(loss: GivenLoss) -> bool:
    return isinstance(loss.function, CategoricalLogitsNegativeLogProbLoss)
