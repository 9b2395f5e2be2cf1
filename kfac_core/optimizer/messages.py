"""What a `KfacOptimizer` says of an error."""

from typing import Any

from kfac_core.errors import ArgumentError, NotFiniteError
from kfac_core.linearization import NamedParams
from kfac_core.optimizer.options import KfacOptions
from kfac_core.registry import backend_of
from kfac_core.typing import Array


def check_given(options: KfacOptions, loss: Array | None, prev_batch: Any) -> None:
    """Check that a step is given what an adaptation of the damping needs.

    Args:
        options: Of the optimiser.
        loss: What the step was given, or None.
        prev_batch: Likewise.

    Raises:
        ArgumentError: If something is missing.
    """
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


def not_finite(gradient: NamedParams) -> NotFiniteError:
    """Return the error for an update that is not finite, or for what made it so."""
    backend = backend_of(*gradient.values())
    bad = [
        name
        for name, part in gradient.items()
        if not bool(backend.xp.all(backend.xp.isfinite(part)))
    ]
    where = f"the gradient of {', '.join(bad)} is" if bad else "the update is"
    msg = (
        f"KfacOptimizer: {where} not finite; nothing was changed. Check the batch,"
        " or use more damping or a smaller learning rate"
    )
    return NotFiniteError(msg)
