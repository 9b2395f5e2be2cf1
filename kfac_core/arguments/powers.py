"""Checks of the powers and damping ids that a spec is asked to serve.

A number alone is one power. A value that is not a finite number is refused, with the
name of the layer.
"""

import math
from collections.abc import Hashable, Sequence
from numbers import Real
from typing import Any

from kfac_core.errors import ArgumentError


def shown(value: object) -> str:
    """Return a value as a message shows it.

    Python refuses to write integers of more than some thousand digits.

    Example:
        >>> shown(3), shown((1.5, "a")), shown(10**5000)
        ('3', "(1.5, 'a')", 'an integer beyond 2**1024')
    """
    if isinstance(value, int) and value.bit_length() > 1024:
        return "an integer beyond 2**1024"
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} of integers beyond 2**1024"


def check_damping_id(value: object, argument: str, layer: str) -> None:
    """Check that a damping id can be looked up.

    Raises:
        ArgumentError: If the id has no hash.
    """
    try:
        frozenset((value,))  # calls `hash`, which PyTorch 2.12 cannot compile
    except TypeError:
        msg = (
            f"{layer}: {argument} has the damping id {shown(value)}, which has no hash"
        )
        raise ArgumentError(msg) from None


def as_exponents(value: object, layer: str) -> tuple[float, ...]:
    """Return distinct exponents, in order.

    Args:
        value: A number, or a sequence of numbers.
        layer: Name of the layer or factor, for the message.

    Returns:
        The exponents as Python's floats.

    Raises:
        ArgumentError: If an exponent is not a finite number.

    Example:
        >>> as_exponents(-1, "layer"), as_exponents([-0.5, -1, -1], "layer")
        ((-1.0,), (-0.5, -1.0))
    """
    return tuple(dict.fromkeys(as_exponent(exp, layer) for exp in _listed(value)))


def as_powers(
    value: object, default: Hashable, layer: str
) -> tuple[tuple[float, Any], ...]:
    """Return distinct pairs of an exponent and a damping id, in order.

    Args:
        value: A number, or a sequence of numbers and pairs.
        default: The damping id of an exponent alone.
        layer: Name of the layer or factor, for the message.

    Raises:
        ArgumentError: If an exponent is not a finite number, or an id is not hashable.

    Example:
        >>> as_powers([-1, (-0.5, "mine")], "damping", "layer")
        ((-1.0, 'damping'), (-0.5, 'mine'))
    """
    pairs = []
    for power in _listed(value):
        if not isinstance(power, tuple | list):
            pairs.append((as_exponent(power, layer), default))
        elif len(power) == 2:
            check_damping_id(power[1], "matpowers", layer)
            pairs.append((as_exponent(power[0], layer), power[1]))
        else:
            error = _no_exponent(power, layer)
            raise error
    return tuple(dict.fromkeys(pairs))


def as_damping_ids(value: object, argument: str, layer: str) -> tuple[Any, ...]:
    """Return damping ids as a tuple.

    Raises:
        ArgumentError: If `value` is not a sequence of hashable ids. A string is one id,
            and not a sequence of letters.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        msg = (
            f"{layer}: {argument} is {shown(value)}, expected a tuple of damping ids,"
            " such as ('damping',)"
        )
        raise ArgumentError(msg)
    for each in value:
        check_damping_id(each, argument, layer)
    return tuple(value)


def as_exponent(value: object, layer: str, argument: str = "matpowers") -> float:
    """Return an exponent as Python's float.

    Args:
        value: What the user gave.
        layer: Name of the layer or factor, for the message.
        argument: Name of the value, for the message.

    Raises:
        ArgumentError: If the value is not a finite number.
    """
    if type(value) is float and math.isfinite(value):  # as specs have it
        return value
    # A boolean is an integer in Python, but it is meant as a flag.
    if isinstance(value, bool) or not isinstance(value, Real):
        error = _no_exponent(value, layer, argument)
        raise error
    try:
        exponent = float(value)
    except OverflowError:
        exponent = math.inf
    if not math.isfinite(exponent):
        error = _no_exponent(value, layer, argument)
        raise error
    return exponent


def is_among(exp: float, exponents: Sequence[float]) -> bool:
    """Return whether an exponent is among others.

    Each is compared by itself, since ``in`` is wrong under
    ``torch.compile(dynamic=True)``: to it, the numbers of a spec have no values.

    Args:
        exp: An exponent, as `as_exponent` returns it.
        exponents: Others.

    Example:
        >>> is_among(-1.0, (1.0, -1.0)), is_among(-0.5, (1.0, -1.0))
        (True, False)
    """
    return any(exp == own for own in exponents)


def place_of_power(
    exp: float, damping_id: Hashable, powers: Sequence[tuple[float, Hashable]]
) -> int | None:
    """Return the place of a power among others, compared as `is_among` does.

    Args:
        exp: Its exponent.
        damping_id: Its damping id.
        powers: Pairs of both.

    Returns:
        The place; None if it is not among them.

    Example:
        >>> place_of_power(-1.0, "b", [(-1.0, "a"), (-1.0, "b")])
        1
    """
    for place, (own, its_id) in enumerate(powers):
        if exp == own and damping_id == its_id:
            return place
    return None


def _listed(value: object) -> Sequence[object]:
    if isinstance(value, tuple | list):
        return value
    return (value,)


def _no_exponent(
    value: object, layer: str, argument: str = "matpowers"
) -> ArgumentError:
    return ArgumentError(
        f"{layer}: {argument} has {shown(value)}, expected finite numbers, such as -1"
        " or -0.5"
    )
