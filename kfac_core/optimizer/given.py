"""Checks of the arguments of a `KfacOptimizer` and its steps, made first of all."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from kfac_core.arguments.arrays import backend_for, check_shape
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, DTypeError, StateError
from kfac_core.linalg.named import cast_like, check_named
from kfac_core.linearization import NamedParams
from kfac_core.optimizer.messages import not_finite
from kfac_core.optimizer.options import LABEL, KfacOptions
from kfac_core.optimizer.state import KfacState
from kfac_core.optimizer.structure import Estimator
from kfac_core.spec.signature import check_made_by, restored_bare
from kfac_core.state import all_finite, is_known_false, without_graph
from kfac_core.typing import Array


def check_model(model: object) -> None:
    """Check that a model can be linearized.

    Raises:
        ArgumentError: If the model has no method ``linearize``.
    """
    if not callable(getattr(model, "linearize", None)):
        msg = (
            f"{LABEL}: model is a {type(model).__name__} without a method linearize,"
            " expected a kfac_core.linearization.Model"
        )
        raise ArgumentError(msg)


def check_state(options: KfacOptions, estimator: Estimator, state: Any) -> None:
    """Check that a state belongs to an optimiser.

    Args:
        options: Options of the optimiser.
        estimator: Estimator of the optimiser.
        state: What the user gave.

    Raises:
        StateError: If it is no state, or one of other layers or parameters, or of
            another momentum type.
    """
    if isinstance(state, (dict, list)):
        msg = f"{LABEL}: {restored_bare(state)}"
        raise StateError(msg)
    if not isinstance(state, KfacState):
        msg = (
            f"{LABEL}: state is a {type(state).__name__}, expected a KfacState: use the"
            " state that init returned"
        )
        raise StateError(msg)
    estimator.check_state(state.estimator)
    check_made_by(state, options.signature, LABEL)
    shapes = dict(estimator.layer_collection.variables)
    check_named(state.velocity, shapes, "velocity of the state", LABEL)
    known = options.layer_dampings
    names = None if known is None else known.keys()
    given: Any = state.damping
    if (given.keys() if isinstance(given, Mapping) else None) != names:
        wanted = "one number" if names is None else f"one for each of {list(names)}"
        msg = (
            f"{LABEL}: the state has a damping of another form than the options:"
            f" expected {wanted}; use init of this optimizer"
        )
        raise StateError(msg)
    dampings = [*given.values()] if isinstance(given, Mapping) else [given]
    backend = backend_for(LABEL, "state", *state[3:-1], *dampings)
    for counter in (state.counter, state.burnin_counter):
        if not backend.isdtype(counter.dtype, "integral"):
            msg = f"{LABEL}: the state has a counter of dtype {counter.dtype}"
            raise StateError(msg)


def checked_gradient(
    backend: Backend,
    estimator: Estimator,
    state: KfacState,
    gradient: NamedParams,
) -> dict[str, Array]:
    """Return a gradient of the mean loss, in the dtypes of the velocity.

    Raises:
        not_finite: If it holds NaN or infinity.
        KfacError: If it has other names, shapes or dtypes than the parameters.
    """
    estimator.check_vector(gradient, "gradient")
    backend_for(LABEL, "gradient", state.counter, *gradient.values())
    constant = without_graph(backend, dict(gradient))
    of_mean: dict[str, Array] = cast_like(backend, constant, state.velocity)
    # Before the blocks refuse it as a vector: here its parameter is known.
    if is_known_false(backend, all_finite(backend, of_mean, state.estimator.ok)):
        raise not_finite(state.loss, of_mean, state.predicted_change)
    return of_mean


def check_flag(one: Array, given: Any, argument: str) -> None:
    """Check a flag that tells a step whether to do something.

    Args:
        one: 0-d, of the parameters' library.
        given: None, a boolean, or a 0-d array of booleans.
        argument: Name of the flag, for the message.

    Raises:
        ArgumentError: If the flag is none of these.
        BackendError: If it is an array of another library.
        DTypeError: If it is an array that does not hold booleans.
        ShapeError: If it is an array that is not 0-d.
    """
    if given is None or isinstance(given, bool | np.bool_):
        return
    if not hasattr(given, "shape"):
        msg = f"{LABEL}: {argument} is {given!r}, expected True, False or None"
        raise ArgumentError(msg)
    _check_0d(one, given, argument, "bool", "a boolean")


def check_loss(one: Array, value: Any, argument: str) -> None:
    """Check that a loss is a real number; a step checks at its end that it is finite.

    Args:
        one: 0-d, of the parameters' library.
        value: A number or 0-d array.
        argument: Where the loss comes from, for the message.

    Raises:
        ArgumentError: If the loss is neither a number nor an array.
        BackendError: If it is an array of another library.
        DTypeError: If it is an array that does not hold real numbers.
        ShapeError: If it is an array that is not 0-d.
    """
    is_flag = isinstance(value, bool | np.bool_)
    # An integer that is too large for a float is refused.
    huge = isinstance(value, int) and value.bit_length() > 1023
    if isinstance(value, Real) and not is_flag and not huge:
        return
    if not hasattr(value, "shape"):
        got = shown(value)
        msg = f"{LABEL}: {argument} is {got}, expected a number or a 0-d array"
        raise ArgumentError(msg)
    _check_0d(one, value, argument, ("real floating", "integral"), "a real number")


def _check_0d(
    one: Array, array: Array, argument: str, kind: str | tuple[str, ...], wanted: str
) -> None:
    """Check the library, the shape and the kind of an array beside the parameters."""
    backend = backend_for(LABEL, argument, one, array)
    check_shape(array, (), argument, LABEL)
    if not backend.isdtype(array.dtype, kind):
        msg = f"{LABEL}: {argument} has dtype {array.dtype}, expected {wanted}"
        raise DTypeError(msg)
