"""What every block's state has; an update of it is taken whole, or not at all."""

from typing import Protocol, Self, TypeVar

from kfac_core.backend import Backend
from kfac_core.state import chosen
from kfac_core.typing import Array


class BlockState(Protocol):
    """What every block's state has."""

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for all its factors."""

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of all its factors set."""


S = TypeVar("S", bound=BlockState)


def whole(
    backend: Backend,
    new: S,
    old: S,
    flag: str,
    fits: Array | None = None,
) -> S:
    """Return `new`, or under a trace `old` if a factor refused its update.

    Args:
        backend: Backend of the states.
        new: The updated state.
        old: The state before.
        flag: Name of the flag that says so.
        fits: 0-d boolean: whether all else is as it must be; None: it is.

    Returns:
        The state.
    """
    ok = new.flag(flag)
    if fits is not None:
        ok = ok & fits
    if not backend.is_traced(ok):
        return new
    return chosen(backend, ok, new, old).with_flag(flag, ok)
