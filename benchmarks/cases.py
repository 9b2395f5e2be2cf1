"""`Case`: one row of a table, which is a piece of work and its rivals."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measuring import Call
from kfac_core import backend_of


class UnavailableError(Exception):
    """A case that cannot be measured here, and why."""


class Rivals(NamedTuple):
    """Calls that are measured in turns.

    Attributes:
        ours: The call of `kfac_core`.
        floors: Calls that do the arithmetic alone, by name.
        others: Calls that a user would run otherwise, by name.
        memory: The peak, including the result but not the inputs, as a multiple of the
            inputs, by name.
    """

    ours: Call
    floors: Mapping[str, Call]
    others: Mapping[str, Call]
    memory: Mapping[str, float] = {}


class Case(NamedTuple):
    """One row of a table.

    Attributes:
        group: Its table.
        name: The work, with its sizes.
        rivals: Makes its data, checks that all compute the same, returns the calls.
        count: How many times the work occurs in what it is a part of.
        part_of: Name of the whole, or empty.
    """

    group: str
    name: str
    rivals: Callable[[], Rivals]
    count: int = 1
    part_of: str = ""


def rng() -> np.random.Generator:
    """Return the generator of all data."""
    return np.random.default_rng(0)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Return normal numbers, the same at every call."""
    return rng().standard_normal(shape, dtype=dtype)


def as_numpy(x: Any) -> np.ndarray:
    """Return an array of any library, on any device, as one of NumPy's."""
    return x if isinstance(x, np.ndarray) else backend_of(x).to_numpy(x)


def agree(what: str, ours: Any, theirs: Any, bound: float = 1e-3) -> None:
    """Check that two ways come to the same, in the Frobenius norm.

    Args:
        what: The other way, for the message.
        ours: An array.
        theirs: An array, of any library.
        bound: Largest relative difference.

    Raises:
        AssertionError: If they differ by more.
    """
    a, b = as_numpy(ours), as_numpy(theirs)
    error = np.linalg.norm(a - b) / np.linalg.norm(b) if a.shape == b.shape else np.nan
    if not error <= bound:
        msg = f"{what}: {a.shape} and {b.shape} differ by {error:.1e} of the norm"
        raise AssertionError(msg)
