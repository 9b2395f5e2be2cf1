"""Whose turn it is: of a few layers at each step, so that work is spread evenly."""

from collections.abc import Sequence


def rolling(step: int, names: Sequence[str], per_step: int) -> tuple[str, ...]:
    """Return the layers whose turn it is at a step, round-robin.

    Over ``len(names)`` steps each has `per_step` turns, as evenly spaced as can be.

    Args:
        step: Number of the step, from 0.
        names: Names of the layers.
        per_step: How many have their turn at each step.

    Returns:
        Their names, in the order of `names`.

    Example:
        >>> [rolling(step, "abc", 2) for step in range(3)]
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    count = len(names)
    last = step * per_step + per_step - 1
    return tuple(
        name for place, name in enumerate(names) if (last - place) % count < per_step
    )
