"""Damping as the original has it: a function without arguments, with an id."""

from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeAlias

from kfac_core.typing import DampingId, Scalar


class PackagedFunc(NamedTuple):
    """A damping function with an id: equal ids share what is computed with them.

    Attributes:
        func: Takes nothing and returns the damping.
        func_id: Hashable.

    Example:
        >>> PackagedFunc(lambda: 0.1, "damping")()
        0.1
    """

    func: Callable[[], Scalar]
    func_id: Hashable

    def __call__(self) -> Scalar:
        """Return the damping."""
        return self.func()


DampingFunc: TypeAlias = Callable[[], Scalar] | float
"""A function that returns the damping, or the damping itself."""


def damping_of(damping_func: DampingFunc | Scalar) -> Scalar:
    """Return the damping as it is now."""
    return damping_func() if callable(damping_func) else damping_func


def id_of(damping_func: DampingFunc) -> DampingId:
    """Return the id of a damping function: a function without one is its own."""
    if isinstance(damping_func, PackagedFunc):
        return damping_func.func_id
    return damping_func
