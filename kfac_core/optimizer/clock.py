"""Whether something is due, by a counter that may have no value under a trace."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from kfac_core.backend import Backend
from kfac_core.typing import Array

T = TypeVar("T")


def turn(backend: Backend, counter: Array, every: int) -> Array:
    """Return whether a counter is a multiple of `every`, 0-d."""
    xp = backend.xp
    rest = xp.remainder(counter, xp.ones_like(counter) * every)
    return xp.equal(rest, xp.zeros_like(rest))


def due(backend: Backend, counter: Array, every: int, given: Any) -> Array | bool:
    """Return `given`, a boolean or 0-d; if it is None, whether it is time."""
    if given is not None:
        return bool(given) if isinstance(given, np.bool_) else given
    return every == 1 or turn(backend, counter, every)


def when(
    backend: Backend,
    condition: Array | bool,
    then: Callable[[], T],
    otherwise: Callable[[], T],
) -> T:
    """Do as `Backend.cond`, but also take a Python boolean."""
    if isinstance(condition, bool):
        return then() if condition else otherwise()
    return backend.cond(condition, then, otherwise)
