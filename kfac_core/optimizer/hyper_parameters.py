"""The numbers of one step: those given to the step, or those of the options."""

import math
from typing import NamedTuple

from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.optimizer.options import KfacOptions
from kfac_core.state import without_graph
from kfac_core.typing import Array, Scalar


class HyperParameters(NamedTuple):
    """The numbers of one step, 0-d arrays.

    Attributes:
        learning_rate: As in `KfacOptions`; for a ``qmodel`` type, what rescales it.
        momentum: As in `KfacOptions`; unused by ``qmodel``.
        norm_constraint: As in `KfacOptions`; None if there is none.
        weight_decay_coeff: As in `KfacOptions`; None if there is none.
        in_range: Boolean: whether all numbers given to the step are in the range of the
            options; outside of a trace they are checked at once.
    """

    learning_rate: Array
    momentum: Array
    norm_constraint: Array | None
    weight_decay_coeff: Array | None
    in_range: Array


def step_numbers(
    options: KfacOptions,
    backend: Backend,
    one: Array,
    learning_rate: Scalar | None,
    momentum: Scalar | None,
    norm_constraint: Scalar | None,
    weight_decay_coeff: Scalar | None,
) -> HyperParameters:
    """Return the numbers of a step.

    Args:
        options: Options of the optimiser.
        backend: Backend of the parameters.
        one: 0-d, of the dtype of the numbers.
        learning_rate: The learning rate given to the step, or None.
        momentum: The momentum given to the step, or None.
        norm_constraint: The constraint given to the step, or None.
        weight_decay_coeff: The coefficient given to the step, or None.

    Returns:
        The numbers.

    Raises:
        ArgumentError: If a number is out of range, or the momentum type does not take
            it.
    """
    label = "KfacOptimizer"
    refused = {"learning_rate": learning_rate, "norm_constraint": norm_constraint}
    if options.momentum_type == "qmodel":
        refused["momentum"] = momentum
    for name, value in refused.items():
        if value is not None and options.uses_qmodel:
            msg = f"{label}: the momentum type {options.momentum_type} takes no {name}"
            raise ArgumentError(msg)

    ok = one > 0

    def number(
        name: str, given: Scalar | None, default: float | None, upper: float = math.inf
    ) -> Array:
        nonlocal ok
        value = default if given is None else given
        value = 1.0 if value is None else value
        found = as_scalar(backend, value, one, name, label, upper)
        if given is not None and backend.is_traced(found):
            ok = ok & in_range(backend, found, upper)
        return without_graph(backend, found)

    rescale = options.qmodel_update_rescale
    rate = rescale if options.uses_qmodel else options.learning_rate
    limited = norm_constraint is not None or options.norm_constraint is not None
    decays = weight_decay_coeff is not None or options.weight_decay_coeff > 0
    decay = options.weight_decay_coeff
    numbers = (
        number("learning_rate", learning_rate, rate),
        number("momentum", momentum, options.fixed_momentum, 1.0),
        number("norm_constraint", norm_constraint, options.norm_constraint)
        if limited
        else None,
        number("weight_decay_coeff", weight_decay_coeff, decay) if decays else None,
    )
    return HyperParameters(*numbers, in_range=ok)


def in_range(backend: Backend, x: Array, upper: float = math.inf) -> Array:
    """Return whether a 0-d array is finite, not negative, and at most `upper`."""
    ok: Array = backend.xp.isfinite(x) & (x >= 0) & (x <= upper)
    return ok
