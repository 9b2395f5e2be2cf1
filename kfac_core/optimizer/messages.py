"""The errors of a `KfacOptimizer`, with what causes them."""

from typing import Any

from kfac_core.errors import ArgumentError, NotFiniteError
from kfac_core.linearization import NamedParams
from kfac_core.optimizer.options import KfacOptions
from kfac_core.registry import backend_of
from kfac_core.typing import Array


def check_given(
    options: KfacOptions, batch: Any, loss: Array | None, prev_batch: Any
) -> None:
    """Check that a step is given what an adaptation of the damping needs.

    Args:
        options: The options of the optimiser.
        batch: What the step was given.
        loss: What the step was given, or None.
        prev_batch: What the step was given, or None.

    Raises:
        ArgumentError: If something is missing, or the batches are of two types.
    """
    if prev_batch is not None and not _are_alike(prev_batch, batch):
        msg = (
            f"KfacOptimizer: prev_batch is a {type(prev_batch).__name__}, expected the"
            f" batch of the step before, and batch is a {type(batch).__name__}"
        )
        raise ArgumentError(msg)
    if options.adapts_at_start and prev_batch is None:
        msg = (
            "KfacOptimizer: without update_damping_immediately the damping is adapted"
            " on the batch of the step before: give it as prev_batch (in the first step"
            " any batch of its shapes)"
        )
        raise ArgumentError(msg)
    if options.adapt_damping and loss is not None and options.loss_fn is None:
        msg = (
            "KfacOptimizer: the damping is adapted by the loss before and after a step,"
            " which must be of one kind: beside loss, give the option loss_fn"
        )
        raise ArgumentError(msg)


def _are_alike(one: Any, other: Any) -> bool:
    """Return whether two batches are of one type; all arrays count as one type."""
    if hasattr(one, "shape") and hasattr(other, "shape"):
        return True
    is_base = type(one) is not object and isinstance(other, type(one))
    return is_base or isinstance(one, type(other))


def not_finite(loss: Array, gradient: NamedParams, predicted: Array) -> NotFiniteError:
    """Return the error for a step that is not finite, which names the cause.

    Args:
        loss: The mean loss before the step, 0-d.
        gradient: The gradient of the mean loss; empty where it was not computed.
        predicted: The predicted change of the mean loss, 0-d.

    Returns:
        The error.
    """
    xp = backend_of(loss).xp
    bad = [
        name for name, part in gradient.items() if not bool(xp.all(xp.isfinite(part)))
    ]
    if not bool(xp.isfinite(loss)):
        where = f"the loss is {float(loss)}"
    elif bad:
        where = f"the gradient of {', '.join(bad)} is not finite"
    elif not bool(xp.isfinite(predicted)):
        where = f"the predicted change of the loss is {float(predicted)}"
    else:
        where = "the update is not finite"
    msg = (
        f"KfacOptimizer: {where}; nothing was changed. Check the batch (and loss,"
        " loss_fn or gradient, if you give them), or use more damping or a smaller"
        " learning rate"
    )
    return NotFiniteError(msg)
