"""Damping as in ``tf.contrib.kfac``: a function without arguments, with an id."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

from kfac_core.arguments.powers import check_damping_id, shown
from kfac_core.errors import ArgumentError
from kfac_core.typing import DampingId, Scalar


class PackagedFunc(NamedTuple):
    """A damping function with an id: equal ids share what is computed with them.

    Attributes:
        func: Takes no arguments, and returns the damping.
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
    """Return the current damping."""
    # A type can be called, too, and would return a damping of zero.
    given: Any = damping_func
    is_function = callable(given) and not isinstance(given, type)
    return given() if is_function else given  # type: ignore[no-any-return]


def id_of(damping_func: DampingFunc, label: str) -> DampingId:
    """Return the id of a damping function; without an id, the function itself.

    Args:
        damping_func: What the user gave.
        label: Name of the factor, for the message.

    Raises:
        ArgumentError: If the damping is neither a function nor a number, or has no
            hash.
    """
    given: object = damping_func
    if isinstance(given, PackagedFunc):
        check_damping_id(given.func_id, "damping_func", label)
        return given.func_id
    is_number = isinstance(given, float | int) and not isinstance(given, bool)
    if isinstance(given, type) or not (callable(given) or is_number):
        msg = (
            f"{label}: damping_func is {shown(given)}, expected a function without"
            " arguments that returns the damping, or a number"
        )
        raise ArgumentError(msg)
    check_damping_id(given, "damping_func", label)
    return damping_func
