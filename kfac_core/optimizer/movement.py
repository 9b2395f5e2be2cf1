"""The last part of a step: new parameters, and then a new damping."""

from collections.abc import Callable
from typing import NamedTuple

from kfac_core.linalg.named import cast_like, inner, map_named
from kfac_core.linearization import NamedParams
from kfac_core.optimizer.clock import turn
from kfac_core.optimizer.damping_adaptation import adapted
from kfac_core.optimizer.state import KfacState
from kfac_core.optimizer.step_context import StepContext
from kfac_core.optimizer.update_rules import (
    RULES,
    change_of,
    predicted_change,
)
from kfac_core.state import all_finite, without_graph
from kfac_core.typing import Array


class Moved(NamedTuple):
    """The result of a step, before it is known whether it is taken.

    Attributes:
        state: The new state.
        params: The new parameters.
        fine: 0-d: whether everything that was computed is finite.
        gradient_norm: As in `StepStatistics`.
        update_norm: As in `StepStatistics`.
        norm_coefficient: As in `StepStatistics`.
    """

    state: KfacState
    params: NamedParams
    fine: Array
    gradient_norm: Array
    update_norm: Array
    norm_coefficient: Array


def moved(
    context: StepContext,
    state: KfacState,
    params: NamedParams,
    loss_at: Callable[[NamedParams], tuple[Array, Array]],
) -> Moved:
    """Update the parameters, and the damping if it is adapted at the end of a step.

    Args:
        context: What the update is made of.
        state: The state, with statistics and inverses up to date.
        params: The parameters.
        loss_at: Returns the mean loss at parameters, and its relative error; see
            `adapted`.

    Returns:
        The result of the step.
    """
    backend, options = context.backend, context.options
    xp = backend.xp
    update = RULES[options.momentum_type](context)
    old = without_graph(backend, dict(params))
    change = change_of(context.numbers, update, old)
    sums = cast_like(backend, map_named(lambda p, d: p + d, old, change), params)
    # Autograd goes on tracking what it tracked, also for the loss after the step.
    new_params = map_named(backend.as_leaf, sums, params)
    new = state._replace(
        velocity=cast_like(backend, update.velocity, state.velocity),
        counter=state.counter + 1,
        learning_rate=update.learning_rate,
        momentum=update.momentum + 0,
    )
    fine = all_finite(backend, sums, state.estimator.cases)
    if update.predicted_change is not None:
        new = new._replace(predicted_change=update.predicted_change)
        fine = fine & xp.isfinite(update.predicted_change)

    def predict() -> tuple[KfacState, Array]:
        predicted = predicted_change(context, update, change)
        finite = fine & xp.isfinite(predicted)
        return new._replace(predicted_change=predicted), finite

    def adapt() -> tuple[KfacState, Array]:
        predicted, finite = predict()
        return adapted(backend, options, predicted, *loss_at(new_params)), finite

    if options.adapt_damping:
        new, fine = backend.cond(
            turn(backend, new.counter, options.damping_adaptation_interval),
            adapt if options.update_damping_immediately else predict,
            lambda: (new, fine),
        )
    gradient_norm = xp.sqrt(inner(backend, context.gradient, context.gradient))
    update_norm = xp.sqrt(inner(backend, change, change))
    return Moved(
        new, new_params, fine, gradient_norm, update_norm, update.norm_coefficient
    )
