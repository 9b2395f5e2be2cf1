"""Theorems about K-FAC that are tried, each with a negative twin.

A `Theorem` says under which condition what holds, and measures it on any array library:
the error that it finds, beside the largest that rounding explains. Its twin breaks the
condition, and must be far off, so that no test passes by never seeing a difference.
``kfac-core verify`` tries all of them.

Example:
    >>> from kfac_core.registry import load_backend
    >>> last_layer = by_name("T3a")
    >>> last_layer.condition
    'last layer, any features, normal loss of fixed precision P'
    >>> trial = Trial(load_backend("numpy"), dtype="float32")
    >>> last_layer.measure(trial).holds, last_layer.measure_twin(trial).is_broken
    (True, True)
"""

from kfac_core.errors import ArgumentError
from kfac_core.theorems import (
    algebra,
    averages,
    conversions,
    damping,
    eigenvalue_corrected,
    embeddings,
    exactness,
    locations,
    losses,
    nearest,
    solutions,
    steps,
    traces,
)
from kfac_core.theorems.theorem import Theorem
from kfac_core.theorems.trial import GENERAL, Measured, Sizes, Trial

THEOREMS: tuple[Theorem, ...] = (
    *exactness.THEOREMS,
    *losses.THEOREMS,
    *locations.THEOREMS,
    *traces.THEOREMS,
    *eigenvalue_corrected.THEOREMS,
    *nearest.THEOREMS,
    *embeddings.THEOREMS,
    *algebra.THEOREMS,
    *damping.THEOREMS,
    *steps.THEOREMS,
    *averages.THEOREMS,
    *conversions.THEOREMS,
    *solutions.THEOREMS,
)
"""All theorems, by theme."""

__all__ = [
    "GENERAL",
    "THEOREMS",
    "Measured",
    "Sizes",
    "Theorem",
    "Trial",
    "by_name",
]


def by_name(name: str) -> Theorem:
    """Return a theorem.

    Args:
        name: Its name, such as ``"T3a"``.

    Returns:
        The theorem.

    Raises:
        ArgumentError: If there is no such theorem.
    """
    for theorem in THEOREMS:
        if theorem.name == name:
            return theorem
    names = ", ".join(theorem.name for theorem in THEOREMS)
    msg = f"theorems: name is {name!r}, expected one of {names}"
    raise ArgumentError(msg)
