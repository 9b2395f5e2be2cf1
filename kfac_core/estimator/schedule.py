"""Whose turn it is: of a few layers at each step, so that work is spread evenly."""

from collections.abc import Sequence
from numbers import Integral

from kfac_core.errors import ArgumentError
from kfac_core.sizes import as_size


def rolling(step: int, names: Sequence[str], per_step: int) -> tuple[str, ...]:
    """Return the layers whose turn it is at a step, round-robin.

    Over ``len(names)`` steps each has `per_step` turns, as evenly spaced as can be.

    Args:
        step: Number of the step, from 0.
        names: Names of the layers.
        per_step: How many have their turn at each step.

    Returns:
        Their names, in the order of `names`.

    Raises:
        ArgumentError: If the step is no integer, or below zero, `per_step` no positive
            one, or there is no name.

    Example:
        >>> [rolling(step, "abc", 2) for step in range(3)]
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    number: object = step
    if isinstance(number, bool) or not isinstance(number, Integral) or int(number) < 0:
        msg = f"rolling: step is {step!r}, expected an integer, not negative"
        raise ArgumentError(msg)
    per_step = as_size(per_step, "per_step", "rolling")
    given: object = names
    if not isinstance(given, Sequence) or not given:
        msg = f"rolling: names is {names!r}, expected a sequence of names of layers"
        raise ArgumentError(msg)
    count = len(names)
    last = step * per_step + per_step - 1
    return tuple(
        name for place, name in enumerate(names) if (last - place) % count < per_step
    )
