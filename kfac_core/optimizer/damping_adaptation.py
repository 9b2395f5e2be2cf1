"""The Levenberg-Marquardt rule: more damping where the quadratic model is wrong.

Let ``rho`` be the change of the loss divided by the change that was predicted (Martens
& Grosse, 2015, section 6.5). It decides whether the damping is decreased, increased or
kept.

The change is a difference of two rounded losses. Each is a mean of ``N`` terms. In any
order of summation, its error is at most ``(N - 1) u`` times the sum of the terms'
magnitudes, with the unit roundoff ``u = eps / 2``. Since rounding errors are mostly
random, the error is hardly ever more than ``2 sqrt(N) u`` times that sum (Higham &
Mary, 2019, section 2). So the change is known to within::

    noise = eps sqrt(N) (|loss before| + |loss after|).

The damping changes only if all changes within the noise lead to the same decision.
Otherwise it stays as it is: near a minimum every loss is the same number, and a change
of zero tells nothing about the model.
"""

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.optimizer.layer_damping import Damping
from kfac_core.optimizer.options import KfacOptions
from kfac_core.optimizer.state import KfacState
from kfac_core.typing import Array, Scalar


def adapted(
    backend: Backend,
    options: KfacOptions,
    state: KfacState,
    after: Array,
    rounding: Scalar = 0.0,
) -> KfacState:
    """Return the state after an adaptation.

    Args:
        backend: Backend of the state.
        options: Options of the optimiser.
        state: Has the loss before a step, and the change that was predicted for the
            step.
        after: The mean loss after the step, on the same batch, 0-d. If it is not
            finite, the step has failed, whatever was predicted.
        rounding: The relative error of a loss: ``eps sqrt(N)``.

    Returns:
        The state with its damping, `rho` and actual change. If no change, or none that
        is finite, was predicted, the state keeps its `rho`.
    """
    xp = backend.xp
    predicted = state.predicted_change
    infinite = xp.zeros_like(state.loss) + float("inf")
    finite = xp.isfinite(after)
    known = xp.where(finite, after, state.loss)
    change = known - state.loss
    noise = (xp.abs(known) + xp.abs(state.loss)) * rounding
    ratio = reduction_ratio(backend, change, predicted)
    rho = xp.where(xp.isnan(ratio), state.rho, ratio)
    return state._replace(
        damping=adapted_damping(
            backend, options, state.damping, change, predicted, noise, ~finite
        ),
        rho=xp.where(finite, rho, -infinite),
        actual_change=xp.where(finite, change, infinite),
    )


def reduction_ratio(backend: Backend, actual: Array, predicted: Array) -> Array:
    """Return ``rho``; NaN where no change was predicted.

    Args:
        backend: Backend of the changes.
        actual: Change of the mean loss on one batch, 0-d.
        predicted: The change that was predicted.

    Returns:
        The quotient of both, 0-d.
    """
    xp = backend.xp
    nothing = xp.equal(predicted, xp.zeros_like(predicted))
    safe = xp.where(nothing, xp.ones_like(predicted), predicted)
    nan = xp.zeros_like(predicted) + float("nan")
    return xp.where(nothing, nan, actual / safe)


def adapted_damping(
    backend: Backend,
    options: KfacOptions,
    damping: Damping,
    actual: Array,
    predicted: Array,
    noise: Array,
    failed: Array,
) -> Damping:
    """Return the damping after an adaptation.

    The damping also decreases where the loss fell although a rise was predicted:
    ``rho`` is then negative, but the step was good.

    Args:
        backend: Backend of the arrays.
        options: Thresholds, factor, smallest and largest damping.
        damping: The damping before, 0-d, or by layer; all are multiplied by one number.
        actual: Change of the loss.
        predicted: The change that was predicted; where it is zero or NaN, the damping
            is kept.
        noise: The error of the actual change.
        failed: Whether the loss is not finite, so that the damping increases.

    Returns:
        The damping.
    """
    xp = backend.xp
    # The comparison is multiplied out, since the quotient by a small prediction may
    # leave the range.
    size = xp.abs(predicted)
    # `sign` is not used, since PyTorch's compilers cannot trace it.
    rising = xp.where(predicted > 0, actual, xp.zeros_like(actual))
    gained = xp.where(predicted < 0, -actual, rising)
    fell = (actual < -noise) & (predicted > 0)
    good = gained - noise > options.damping_decrease_rho_threshold * size
    bad = gained + noise < options.damping_increase_rho_threshold * size
    decrease = (good | fell) & ~failed
    increase = bad | failed
    least = options.min_damping + options.l2_reg

    def one(before: Array) -> Array:
        raised = xp.where(increase, before / options.omega, before)
        new = xp.where(decrease, before * options.omega, raised)
        bound = xp.ones_like(new)
        return xp.minimum(xp.maximum(new, bound * least), bound * options.max_damping)

    changed: Damping = tree.map(one, damping)
    return changed
