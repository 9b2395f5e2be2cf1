"""Losses by the names that PyTorch has for them, or as their gradient tells.

What a *scale* is: the Fisher of the core is that of the mean over cases. A user's loss
is that, or the sum, or a mean over the rows that are not ignored, or over all entries:
a number times it, which must be known for the damping to mean the same everywhere.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from kfac_core.errors import ArgumentError, NotFiniteError, UnsupportedError
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    LossFunction,
    MultiBernoulliNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
)

LossName = Literal[
    "auto", "cross_entropy", "binary_cross_entropy_with_logits", "mse_loss"
]
"""Names of functions of `torch.nn.functional`; ``"auto"``: see `recognised`."""

Reduction = Literal["mean", "sum"]
"""Whether the loss that is differentiated is the mean or the sum over what counts."""


@dataclass(frozen=True)
class GivenLoss:
    """A loss, and how that of the user is reduced.

    Attributes:
        function: The loss of a row.
        reduction: Reduction of the user's loss.
        by_entry: Whether a mean is over all entries of the rows, as that of
            ``torch.nn.functional.mse_loss``, rather than over the rows.
    """

    function: LossFunction
    reduction: Reduction = "mean"
    by_entry: bool = False

    def scale(self, rows: torch.Tensor, counting: torch.Tensor) -> torch.Tensor:
        """Return by what the mean over all rows is multiplied in the user's loss.

        Args:
            rows: What goes into the loss, ``[cases, classes]``.
            counting: Which rows are not ignored, ``[cases]``.

        Returns:
            The number, 0-d.
        """
        cases, classes = rows.shape
        one = torch.ones((), dtype=rows.dtype, device=rows.device)
        if self.reduction == "sum":
            return one * cases
        mean = one * cases / counting.sum().clamp(min=1)
        return mean / classes if self.by_entry else mean


_BY_NAME: dict[str, tuple[type[LossFunction], bool]] = {
    "cross_entropy": (CategoricalLogitsNegativeLogProbLoss, False),
    "binary_cross_entropy_with_logits": (MultiBernoulliNegativeLogProbLoss, True),
    "mse_loss": (NormalMeanNegativeLogProbLoss, True),
}


def given_loss(loss: object, reduction: object = "mean") -> GivenLoss | None:
    """Return what a user means by a loss.

    Args:
        loss: A `LossFunction`, or a `LossName`.
        reduction: ``"mean"`` or ``"sum"``.

    Returns:
        The loss; None for ``"auto"``.

    Raises:
        ArgumentError: If the loss or the reduction is of no known name.
    """
    if reduction not in ("mean", "sum"):
        msg = f"reduction is {reduction!r}, expected 'mean' or 'sum'"
        raise ArgumentError(msg)
    known: Reduction = "mean" if reduction == "mean" else "sum"
    if isinstance(loss, LossFunction):
        return GivenLoss(loss, known)
    if isinstance(loss, str) and loss == "auto":
        return None
    if not isinstance(loss, str) or loss not in _BY_NAME:
        msg = (
            f"loss is {loss!r}, expected a LossFunction of kfac_core.losses, or one of"
            f" 'auto', {', '.join(map(repr, _BY_NAME))}"
        )
        raise ArgumentError(msg)
    made, by_entry = _BY_NAME[loss]
    return GivenLoss(made(), known, by_entry)


def recognised(
    rows: torch.Tensor, gradient: torch.Tensor, reduction: Reduction
) -> GivenLoss:
    """Return the loss that has a gradient, whatever its rows are multiplied by.

    ``w (softmax(z) - e_y)`` is that of cross-entropy, whose label ``y`` is the only
    entry below zero, and ``w (sigmoid(z) - t)`` with ``t`` zeros and ones, and one
    ``w`` for all, that of the binary one. A squared error could have any.

    Args:
        rows: What goes into the loss, ``[cases, classes]``.
        gradient: Gradient of the user's loss for these.
        reduction: Reduction of the user's loss.

    Returns:
        The loss.

    Raises:
        NotFiniteError: If an output or a gradient is NaN or infinite.
        UnsupportedError: If it is neither of these.
    """
    if not (rows.isfinite().all() and gradient.isfinite().all()):
        msg = (
            "the model's outputs, or the gradient of the loss for them, hold NaN or"
            " infinity, and loss='auto' is read off these; say which loss it is, as in"
            " loss='cross_entropy', or skip the batch"
        )
        raise NotFiniteError(msg)
    slack = slack_of(rows.dtype, rows)
    counting = (gradient != 0).any(-1)
    g, z = gradient[counting].double(), rows[counting].double()
    if len(g) and rows.shape[-1] > 1 and _is_softmax(g, z, slack):
        return GivenLoss(CategoricalLogitsNegativeLogProbLoss(), reduction)
    if len(g) and _is_sigmoid(g, z, slack):
        return GivenLoss(MultiBernoulliNegativeLogProbLoss(), reduction, True)
    msg = (
        "loss is 'auto', but the gradient for the model's outputs is that of neither"
        " cross-entropy nor its binary form with labels; say which loss it is:"
        " loss='cross_entropy', which may have smoothed labels or probabilities as"
        " targets, loss='binary_cross_entropy_with_logits', loss='mse_loss', or a"
        " LossFunction of kfac_core.losses"
    )
    raise UnsupportedError(msg)


def slack_of(dtype: torch.dtype, rows: torch.Tensor) -> float:
    """Return by how much rounding may err, of an entry of one unit."""
    largest = float(rows.abs().max()) if rows.numel() else 0.0
    # A loss is often computed in single precision, whatever the model is in.
    eps = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    return 16 * float(eps) * (1 + largest)


def label_weights(rows: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the ``w`` of each row of a cross-entropy of labels.

    Args:
        rows: What goes into the loss, ``[cases, classes]``.
        gradient: ``w (softmax(z) - e_y)`` of each row.

    Returns:
        ``[cases]``; zero where there is no gradient.
    """
    p = rows.softmax(-1)
    others = torch.ones_like(p).scatter(-1, labels_of(p, gradient)[:, None], 0.0)
    known = (p * others).sum(-1)
    found = (gradient * others).sum(-1)
    return torch.where(known > 0, found / torch.where(known > 0, known, 1.0), 0.0)


def is_equal(rows: torch.Tensor, gradient: torch.Tensor) -> bool | None:
    """Return whether all rows of a cross-entropy weigh the same.

    Args:
        rows: What goes into the loss, ``[cases, classes]``.
        gradient: Gradient of the user's loss for these.

    Returns:
        Whether they do; None if the gradient is not that of labels, nor multiples of
        such.
    """
    slack = slack_of(rows.dtype, rows)
    counting = (gradient != 0).any(-1)
    g, z = gradient[counting].double(), rows[counting].double()
    if not _is_softmax(g, z, slack):
        return None
    weights = label_weights(z, g)
    return bool(weights.max() - weights.min() <= 4 * slack * weights.max())


def labels_of(p: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the labels of a cross-entropy, ``[cases]``.

    Args:
        p: The probabilities, ``[cases, classes]``.
        gradient: ``w (p - e_y)`` of each row.
    """
    # Where the model is certain, ``p - 1`` may be rounded to zero, as others may be.
    least = gradient == gradient.amin(-1, keepdim=True)
    return torch.where(least, p, -1.0).argmax(-1)


def _is_softmax(g: torch.Tensor, z: torch.Tensor, slack: float) -> bool:
    p, weight = z.softmax(-1), label_weights(z, g)[:, None]
    label = torch.zeros_like(p).scatter(-1, labels_of(p, g)[:, None], 1.0)
    expected = weight * (p - label)
    error = (g - expected).abs().amax(-1)
    return bool((error <= slack * weight[:, 0]).all() and (weight > 0).all())


def _is_sigmoid(g: torch.Tensor, z: torch.Tensor, slack: float) -> bool:
    p = z.sigmoid()
    difference = torch.where(g < 0, p - 1, p)
    weight = g.abs().sum() / difference.abs().sum()
    return bool((g - weight * difference).abs().max() <= slack * weight)


def targets_of(
    loss: GivenLoss, rows: torch.Tensor, gradient: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return the targets that the gradient of a loss is for.

    Args:
        loss: The loss.
        rows: What goes into it, ``[cases, classes]``.
        gradient: Gradient of the user's loss for these.
        scale: What `GivenLoss.scale` returns.

    Returns:
        Labels ``[cases]``, or an array like the rows; anything for ignored rows.

    Raises:
        UnsupportedError: If they cannot be told from the gradient.
    """
    if isinstance(loss.function, CategoricalLogitsNegativeLogProbLoss):
        return labels_of(rows.softmax(-1), gradient)
    if isinstance(loss.function, MultiBernoulliNegativeLogProbLoss):
        return (gradient < 0).to(rows.dtype)
    if isinstance(loss.function, NormalMeanNegativeLogProbLoss):
        var = torch.as_tensor(loss.function.var, dtype=rows.dtype, device=rows.device)
        return rows - var * gradient.to(rows.dtype) * (len(rows) / scale)
    msg = (
        f"mode='empirical' tells targets from gradients, and cannot do so for a"
        f" {type(loss.function).__name__}; take the mode 'gradients'"
    )
    raise UnsupportedError(msg)
