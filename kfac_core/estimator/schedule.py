"""The layers to update at each step, a few at a time, so that work is spread evenly."""

from collections.abc import Sequence
from numbers import Integral

from kfac_core.arguments.sizes import as_size
from kfac_core.errors import ArgumentError


def rolling(step: int, names: Sequence[str], per_step: int) -> tuple[str, ...]:
    """Return the layers whose turn it is at a step, round-robin.

    In ``len(names)`` steps each layer has `per_step` turns, spaced as evenly as
    possible.

    Args:
        step: Number of the step, from 0.
        names: Names of the layers.
        per_step: Number of layers whose turn it is at each step.

    Returns:
        Names of the layers, in the order of `names`.

    Raises:
        ArgumentError: If the step is not an integer or is below zero, `per_step` is not
            a positive integer, or there is no name.

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
