"""The Levenberg-Marquardt rule: more damping where the quadratic model is wrong.

By ``rho``, the change of the loss over the change that was predicted (Martens & Grosse,
2015, section 6.5), the damping is decreased, increased or kept.

The change is a difference of two losses that are rounded. Each is a mean of ``N``
terms: to sum them in whatever order errs by at most ``(N - 1) u`` times the sum of
their magnitudes, ``u = eps / 2`` being the unit roundoff, and, errors being as random
as they are, hardly ever by more than ``2 sqrt(N) u`` times it (Higham & Mary, 2019,
section 2). So the change is known to within::

    noise = eps sqrt(N) (|loss before| + |loss after|).

What all changes within the noise agree on is evidence, and changes the damping; what
they do not is none, and leaves it: near a minimum every loss is the same number, and a
change of zero says nothing of the model.
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
        options: Of the optimiser.
        state: Has the loss before a step, and the change that was predicted for it.
        after: The mean loss after it, on the same batch, 0-d. One that is not finite
            is as bad as can be, whatever was predicted.
        rounding: What a loss may be off by, relative to it: ``eps sqrt(N)``.

    Returns:
        The state with its damping, `rho` and actual change. Where no change, or none
        that is finite, was predicted, `rho` is that of before.
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
    damping: Damping,
    actual: Array,
    predicted: Array,
    noise: Array,
    failed: Array,
) -> Damping:
    """Return the damping after an adaptation.

    It decreases also where the loss fell although a rise was predicted: ``rho`` is
    negative then, for no fault of the step.

    Args:
        backend: Backend of the arrays.
        options: Thresholds, factor, smallest and largest damping.
        damping: The damping before, 0-d, or by layer: all are multiplied by the same.
        actual: Change of the loss.
        predicted: The change that was predicted; where it is zero, or not a number,
            neither way.
        noise: What the actual change may be off by.
        failed: Whether the loss is not finite, so that the damping increases.

    Returns:
        The damping.
    """
    xp = backend.xp
    # Multiplied out: of a small prediction, the quotient may leave the range.
    size = xp.abs(predicted)
    # Not by the sign of the prediction, which no compiler of PyTorch can trace.
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
