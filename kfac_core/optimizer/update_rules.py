"""How a gradient becomes an update: the momentum types of `KfacOptions`."""

from collections.abc import Callable
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg.named import Named, inner, map_named, scaled
from kfac_core.optimizer.hyper_parameters import HyperParameters
from kfac_core.optimizer.layer_damping import penalised
from kfac_core.optimizer.options import MomentumType
from kfac_core.optimizer.step_context import StepContext
from kfac_core.typing import Array, Scalar


class Update(NamedTuple):
    """An update of the parameters.

    Attributes:
        velocity: The new velocity.
        step: This times the learning rate is subtracted from the parameters, besides
            weight decay.
        learning_rate: 0-d; for a ``qmodel`` type, minus ``alpha``, rescaled.
        momentum: 0-d.
        norm_coefficient: 0-d, what the norm constraint multiplied the step by.
        predicted_change: 0-d, what the model of a ``qmodel`` type predicts; else None.
    """

    velocity: dict[str, Array]
    step: dict[str, Array]
    learning_rate: Array
    momentum: Array
    norm_coefficient: Array
    predicted_change: Array | None = None


def regular(context: StepContext) -> Update:
    """Precondition the gradient, then add it to the velocity."""
    rate, momentum, *_ = context.numbers
    direction = context.precondition(context.gradient)
    coefficient = norm_coefficient(context, direction, context.gradient)
    velocity = map_named(
        lambda v, d: momentum * v + coefficient * d, context.velocity, direction
    )
    return Update(velocity, velocity, rate, momentum, coefficient)


def adam(context: StepContext) -> Update:
    """Add the gradient to the velocity, then precondition the velocity."""
    rate, momentum, *_ = context.numbers
    velocity = map_named(
        lambda v, g: momentum * v + g, context.velocity, context.gradient
    )
    direction = context.precondition(velocity)
    coefficient = norm_coefficient(context, direction, velocity)
    return Update(velocity, scaled(coefficient, direction), rate, momentum, coefficient)


def qmodel(context: StepContext) -> Update:
    """Minimise the quadratic model along the direction and the previous update."""
    rescale, mu, *_ = context.numbers
    direction = context.precondition(context.gradient)
    model = context.model(direction, scaled(-1.0, context.velocity))
    if context.options.momentum_type == "qmodel":
        alpha, mu = model.best(context.backend)
    else:
        alpha = model.best_along_first(context.backend, mu)
    velocity = map_named(lambda v, d: mu * v - alpha * d, context.velocity, direction)
    change = model.change((alpha * rescale, mu * rescale), penalty(context))
    one = context.backend.xp.ones_like(alpha)
    return Update(velocity, velocity, -alpha * rescale, mu, one, change)


RULES: dict[MomentumType, Callable[[StepContext], Update]] = {
    "regular": regular,
    "adam": adam,
    "qmodel": qmodel,
    "qmodel_fixedmu": qmodel,
}
"""The rule of each momentum type."""


def change_of(numbers: HyperParameters, update: Update, params: Named) -> Named:
    """Return what an update adds to the parameters, including weight decay."""
    step: Named = update.step
    decay = numbers.weight_decay_coeff
    if decay is not None:
        step = map_named(lambda s, p: s + decay * p, step, params)
    return scaled(-numbers.learning_rate, step)


def norm_coefficient(context: StepContext, direction: Named, gradient: Named) -> Array:
    """Return ``min(1, sqrt(constraint / (learning_rate^2 direction'gradient)))``."""
    rate, limit = context.numbers.learning_rate, context.numbers.norm_constraint
    if limit is None:
        return context.backend.xp.ones_like(rate)
    norm = rate**2 * inner(context.backend, direction, gradient)
    return bounded(context.backend, norm, limit)


def bounded(backend: Backend, norm: Array, limit: Scalar) -> Array:
    """Return what a step is multiplied by so that its norm is within a limit, 0-d.

    Args:
        backend: Backend of the norm.
        norm: Squared norm of the step, 0-d.
        limit: The largest that is allowed, positive.

    Returns:
        ``min(1, sqrt(limit / norm))``.
    """
    xp = backend.xp
    above = norm > limit
    safe = xp.where(above, norm, xp.ones_like(norm))
    return xp.where(above, xp.sqrt(limit / safe), xp.ones_like(norm))


def penalty(context: StepContext) -> float | None:
    """Return the coefficient of an update's halved squared norm in a predicted change.

    None stands for the damping.
    """
    included = context.options.include_damping_in_qmodel_change
    return None if included else context.options.l2_reg


def predicted_change(context: StepContext, update: Update, change: Named) -> Array:
    """Return the change of the mean loss that is predicted for an update.

    Args:
        context: What the update was made of.
        update: The update.
        change: What the update adds to the parameters, including weight decay.

    Returns:
        The predicted change, 0-d; see `KfacOptions.predicted_change`.
    """
    if context.options.predicted_change == "exact":
        decays = context.numbers.weight_decay_coeff is not None
        if update.predicted_change is not None and not decays:
            return update.predicted_change
        return context.model(change).change((1.0,), penalty(context))
    if update.predicted_change is not None:
        return update.predicted_change
    rate = update.learning_rate
    if context.options.momentum_type == "adam":
        along = inner(context.backend, update.step, update.velocity)
        return rate**2 * along / 2 - rate * inner(
            context.backend, update.step, context.gradient
        )
    d = scaled(-rate, update.step)
    curved = inner(context.backend, d, context.multiply(d))
    own = penalty(context)
    if own is not None:
        excess = penalised(context.backend, context.damping, d, d)
        curved = curved - (excess - own * inner(context.backend, d, d))
    return inner(context.backend, d, context.gradient) + curved / 2
