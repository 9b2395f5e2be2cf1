"""Checks of the values of a loss's inputs and targets.

Arrays are checked where they have values. Within a trace, an invalid entry becomes NaN,
and so does everything that is computed from it: a wrong input never gives a number that
looks right.
"""

import math
from collections.abc import Callable
from typing import Any

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, NotFiniteError
from kfac_core.loss_functions.positions import Positions, input_arrays, like_inputs
from kfac_core.state import is_known_false
from kfac_core.typing import Array


def checked_inputs(
    at: Positions,
    valid_inputs: Callable[[Backend, Any], Array],
    names: tuple[str, ...],
    loss: str,
    *,
    has_range: bool,
) -> Positions:
    """Check the values of inputs.

    Args:
        at: The inputs, with ones where the mask is zero.
        valid_inputs: Whether entries are valid: a condition that broadcasts to them.
        names: Names of the inputs, for messages.
        loss: Name of the loss, for messages.
        has_range: Whether finite entries may be invalid; if not, an invalid entry makes
            results NaN by itself.

    Returns:
        The inputs; within a trace NaN where they are out of range.

    Raises:
        NotFiniteError: If an input has a value that is NaN, or infinite where the loss
            does not allow that.
        ArgumentError: If an input has a finite value that is invalid.
    """
    backend, arrays = at.backend, input_arrays(at.inputs)
    if not has_range:
        finite = [backend.is_finite(x) for x in arrays]
        if backend.is_traced(finite[0]) or all(map(bool, finite)):
            return at
    valid = valid_inputs(backend, at.inputs)
    ok = backend.xp.all(valid)
    if is_known_false(backend, ok):
        for x, name in zip(arrays, names, strict=True):
            if is_known_false(backend, backend.is_finite(x)):
                msg = (
                    f"{loss}: {name} holds NaN or infinity where it counts; mask what"
                    " does not count, and look for what went wrong before"
                )
                raise NotFiniteError(msg)
        msg = f"{loss}: {names[-1]} is out of range, expected a positive one"
        raise ArgumentError(msg)
    if not backend.is_traced(ok):
        return at
    xp = backend.xp
    marked = [xp.where(valid, x, xp.full_like(x, math.nan)) for x in arrays]
    return at._replace(inputs=like_inputs(at.inputs, marked))


def checked_targets(
    at: Positions,
    valid: Array,
    given: Array,
    prepared: Array,
    expected: str,
    loss: str,
) -> Array:
    """Check the values of targets.

    Args:
        at: The inputs, and the weights of the positions.
        valid: Whether targets are valid: a condition that broadcasts to `prepared`.
        given: The targets as the user gave them.
        prepared: The targets as the loss computes with them.
        expected: What targets can be, in words.
        loss: Name of the loss, for messages.

    Returns:
        The prepared targets; within a trace NaN where they are invalid.

    Raises:
        ArgumentError: If a target has a value that is invalid.
    """
    backend = at.backend
    xp = backend.xp
    if at.weights is not None:
        # The numbers that fill padding may be invalid targets. NaN is not padding.
        valid = valid | xp.equal(at.weights, xp.zeros_like(at.weights))
    ok = xp.all(valid)
    if is_known_false(backend, ok):
        low, high = float(xp.min(given)), float(xp.max(given))
        msg = (
            f"{loss}: targets are from {low:g} to {high:g}, expected {expected}; a mask"
            " of zeros is for positions without a target"
        )
        raise ArgumentError(msg)
    is_real = backend.isdtype(prepared.dtype, "real floating")
    if not is_real or not backend.is_traced(ok):
        return prepared
    return xp.where(valid, prepared, xp.full_like(prepared, math.nan))


def roundoff(backend: Backend, given: Array) -> float:
    """Return the unit roundoff of targets: of their dtype, but at least float32's.

    So targets may have been rounded to float32 before they were cast to float64.
    """
    xp = backend.xp
    single = float(xp.finfo(xp.float32).eps)
    if not backend.isdtype(given.dtype, "real floating"):
        return single
    return max(single, float(backend.finfo(given.dtype).eps))
