"""What a factor can be asked to serve: defaults and checks of these options."""

from dataclasses import fields, replace
from numbers import Integral
from typing import Any, TypeVar

from kfac_core.arguments.powers import (
    as_damping_ids,
    as_powers,
    check_damping_id,
    shown,
)
from kfac_core.errors import ArgumentError, NotRegisteredError
from kfac_core.fisher_factors.base import messages
from kfac_core.typing import DampingId

F = TypeVar("F", bound=Any)

DEFAULT_DAMPING_ID = "damping"
"""The damping id of whatever is registered without one."""


def write_ids(factor: Any, *options: str) -> None:
    """Write the damping ids of some options as tuples.

    Args:
        factor: The spec, whose options are checked.
        *options: Names of the options.

    Raises:
        ArgumentError: If one does not hold damping ids.
    """
    for option in options:
        ids = as_damping_ids(getattr(factor, option), option, factor.label)
        object.__setattr__(factor, option, ids)


def with_id(factor: F, option: str, damping_id: DampingId) -> F:
    """Return a spec that serves an option for one more damping id.

    Args:
        factor: The spec.
        option: Name of a field of damping ids.
        damping_id: The damping id.

    Returns:
        The new spec.
    """
    check_damping_id(damping_id, "damping_id", factor.label)
    ids = dict.fromkeys([*getattr(factor, option), damping_id])
    return replace(factor, **{option: tuple(ids)})


def place_of(factor: Any, option: str, damping_id: DampingId) -> int:
    """Return the place of a damping id among those that an option is served for.

    Args:
        factor: The spec.
        option: Name of a field of damping ids.
        damping_id: The damping id.

    Returns:
        The place.

    Raises:
        not_registered: If the option is not served for this damping id.
    """
    ids: tuple[DampingId, ...] = getattr(factor, option)
    check_damping_id(damping_id, "damping_id", factor.label)
    if damping_id not in ids:
        raise not_registered(factor, option, damping_id)
    return ids.index(damping_id)


def served_by(factor: Any) -> str:
    """Return what a spec serves, in words, for messages."""
    others = [each.name for each in fields(factor) if each.name in factor.served_fields]
    others.remove("matpowers")
    found = [f"the powers {list(factor.matpowers)}"]
    for name in others:
        value = getattr(factor, name)
        found.append(f"{name} {list(value) if isinstance(value, tuple) else value}")
    return ", ".join(found)


def not_registered(factor: Any, what: str, damping_id: DampingId) -> NotRegisteredError:
    """Return the error for what a spec does not serve."""
    return messages.not_registered(factor.label, what, damping_id, served_by(factor))


def write_served(factor: Any, more_ids: tuple[DampingId, ...]) -> None:
    """Write what a spec serves in the form that its verbs read, once.

    Args:
        factor: The spec, whose options are checked.
        more_ids: Damping ids of what this kind of factor alone serves.

    Raises:
        ArgumentError: If an option does not hold powers or damping ids, or if
            ``newton_steps`` is no number of steps, or cannot give what is served.
    """
    powers = as_powers(factor.matpowers, DEFAULT_DAMPING_ID, factor.label)
    object.__setattr__(factor, "matpowers", powers)
    write_ids(factor, "cholesky", "cholesky_inverse")
    ids = [damping_id for _, damping_id in powers]
    ids += [*factor.cholesky, *factor.cholesky_inverse, *more_ids]
    object.__setattr__(factor, "damping_ids", tuple(dict.fromkeys(ids)))
    stored = tuple(power for power in powers if power[0] != 1)
    object.__setattr__(factor, "stored_matpowers", stored)
    _check_newton_steps(factor, more_ids)
    if not isinstance(factor.form, factor.forms):
        wanted = " or ".join(form.__name__ for form in factor.forms)
        msg = f"{factor.label}: form is {shown(factor.form)}, expected {wanted}"
        raise ArgumentError(msg)
    factor.form.check(factor)


def _check_newton_steps(factor: Any, more_ids: tuple[DampingId, ...]) -> None:
    """Check the number of Newton-Schulz steps, and that they can give what is served.

    Raises:
        ArgumentError: If the number is negative, or more than inverses are served.
    """
    steps: object = factor.newton_steps
    if isinstance(steps, bool) or not isinstance(steps, Integral) or int(steps) < 0:
        msg = (
            f"{factor.label}: newton_steps is {shown(steps)}, expected an integer,"
            " not negative"
        )
        raise ArgumentError(msg)
    others = (*factor.cholesky, *factor.cholesky_inverse, *more_ids)
    powers = {exp for exp, _ in factor.stored_matpowers}
    if steps and (others or factor.eigendecomposition or powers - {-1.0}):
        msg = (
            f"{factor.label}: newton_steps is {steps}, but products give the inverse"
            f" alone, and no factorisation; served are {served_by(factor)}. Serve no"
            " power but -1 and 1 (no damping_type 'exact'), or leave newton_steps"
            " at 0"
        )
        raise ArgumentError(msg)
