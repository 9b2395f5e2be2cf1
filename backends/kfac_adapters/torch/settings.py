"""Checks of the numbers that users give."""

import math
from numbers import Integral, Real

from kfac_core.errors import ArgumentError

_SHARES = ("decay", "momentum", "gradient_worker_fraction")
"""The numbers from 0 to 1."""


def check_settings(label: str, **given: object) -> None:
    """Check numbers by their names.

    Args:
        label: Who takes them, for messages.
        **given: The numbers. What ends in ``_every`` counts steps, ``decay``,
            ``momentum`` and ``gradient_worker_fraction`` are one at most, and
            ``norm_constraint`` may be None.

    Raises:
        ArgumentError: If one is out of range.
    """
    for name, value in given.items():
        if name == "norm_constraint" and value is None:
            continue
        if name.endswith("_every"):
            fits = isinstance(value, Integral) and not isinstance(value, bool)
            fits, wanted = fits and int(value) > 0, "a positive integer"  # type: ignore[call-overload]
        else:
            fits = isinstance(value, Real) and not isinstance(value, bool)
            number = float(value) if fits else math.nan  # type: ignore[arg-type]
            fits, wanted = 0 <= number < math.inf, "a finite number, not negative"
            if name in _SHARES:
                fits, wanted = fits and number <= 1, "a number from 0 to 1"
        if not fits:
            msg = f"{label}: {name} is {value!r}, expected {wanted}"
            raise ArgumentError(msg)
