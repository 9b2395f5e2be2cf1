"""The Levenberg-Marquardt rule: more damping where the quadratic model is wrong.

By ``rho``, the change of the loss over the change that was predicted (Martens & Grosse,
2015, section 6.5), the damping is decreased, increased or kept.
"""

from kfac_core.backend import Backend
from kfac_core.optimizer.options import KfacOptions
from kfac_core.optimizer.state import KfacState
from kfac_core.typing import Array


def adapted(
    backend: Backend, options: KfacOptions, state: KfacState, after: Array
) -> KfacState:
    """Return the state after an adaptation.

    Args:
        backend: Backend of the state.
        options: Of the optimiser.
        state: Has the loss before a step, and the change that was predicted for it.
        after: The mean loss after it, on the same batch, 0-d. One that is not finite
            is as bad as can be, whatever was predicted.

    Returns:
        The state with its damping, `rho` and actual change.
    """
    xp = backend.xp
    predicted = state.predicted_change
    infinite = xp.zeros_like(state.loss) + float("inf")
    finite = xp.isfinite(after)
    actual = xp.where(finite, after, infinite) - state.loss
    safe = xp.where(finite, actual, xp.zeros_like(actual))
    rho = xp.where(finite, reduction_ratio(backend, safe, predicted), -infinite)
    damping = adapted_damping(backend, options, state.damping, rho, actual, predicted)
    return state._replace(damping=damping, rho=rho, actual_change=actual)


def reduction_ratio(backend: Backend, actual: Array, predicted: Array) -> Array:
    """Return ``rho``; not a number where no change was predicted.

    Args:
        backend: Backend of the changes.
        actual: Change of the mean loss on one batch, 0-d.
        predicted: The change that was predicted.

    Returns:
        Their quotient, 0-d.
    """
    xp = backend.xp
    nothing = xp.equal(predicted, xp.zeros_like(predicted))
    safe = xp.where(nothing, xp.ones_like(predicted), predicted)
    nan = xp.zeros_like(predicted) + float("nan")
    return xp.where(nothing, nan, actual / safe)


def adapted_damping(
    backend: Backend,
    options: KfacOptions,
    damping: Array,
    rho: Array,
    actual: Array,
    predicted: Array,
) -> Array:
    """Return the damping after an adaptation.

    It decreases also where the loss fell although a rise was predicted: ``rho`` is
    negative then, for no fault of the step.

    Args:
        backend: Backend of the arrays.
        options: Thresholds, factor and smallest damping.
        damping: The damping before, 0-d.
        rho: The reduction ratio; neither way where it is not a number.
        actual: Change of the loss.
        predicted: The change that was predicted.

    Returns:
        The damping, 0-d.
    """
    xp = backend.xp
    fell = (actual < 0) & (predicted > 0)
    decrease = (rho > options.damping_decrease_rho_threshold) | fell
    increase = rho < options.damping_increase_rho_threshold
    raised = xp.where(increase, damping / options.omega, damping)
    new = xp.where(decrease, damping * options.omega, raised)
    least = xp.ones_like(new) * (options.min_damping + options.l2_reg)
    return xp.maximum(new, least)
