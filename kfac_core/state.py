"""States are nested tuples, and dictionaries, of arrays; updates are taken whole."""

from collections.abc import Callable
from typing import Any, TypeVar

from kfac_core.backend import Backend
from kfac_core.typing import Array, DType

T = TypeVar("T")


def select(backend: Backend, condition: Array, new: T, old: T) -> T:
    """Return `new` where the 0-d `condition` holds and `old` elsewhere.

    Args:
        backend: Backend of the arrays.
        condition: 0-d boolean array.
        new: Nested tuples and dictionaries of arrays.
        old: The same structure and shapes.

    Returns:
        The same structure.
    """
    if isinstance(new, dict):
        parts: Any = {
            name: select(backend, condition, part, old[name])  # type: ignore[index]
            for name, part in new.items()
        }
        return parts  # type: ignore[no-any-return]
    if isinstance(new, tuple):
        fields: Any = [
            select(backend, condition, n, o)
            for n, o in zip(new, old, strict=True)  # type: ignore[call-overload]
        ]
        # NamedTuples are made from positional fields, tuples from one iterable.
        return type(new)(*fields) if hasattr(new, "_fields") else type(new)(fields)
    if new is old:
        return new  # within a trace, a choice would make a copy
    chosen: Any = backend.xp.where(condition, new, old)
    return chosen  # type: ignore[no-any-return]


def all_finite(backend: Backend, state: Any, like: Array) -> Array:
    """Return 0-d: whether every entry of every array is finite.

    Args:
        backend: Backend of the arrays.
        state: Nested tuples and dictionaries of arrays, perhaps none.
        like: 0-d boolean array, for the device of the answer.

    Returns:
        0-d boolean array.
    """
    ok = None
    for part in _leaves(state):
        finite = backend.is_finite(part)
        ok = finite if ok is None else ok & finite
    return backend.xp.ones_like(like) if ok is None else ok


def _leaves(state: Any) -> list[Array]:
    """Return the arrays of nested tuples and dictionaries."""
    if isinstance(state, dict):
        state = tuple(state.values())
    if not isinstance(state, tuple):
        return [state]
    return [leaf for part in state for leaf in _leaves(part)]


def cast_floats(backend: Backend, state: Any, dtype: DType) -> Any:
    """Return a state with all its floating-point numbers in one dtype.

    Args:
        backend: Backend of the arrays.
        state: Nested tuples and dictionaries of arrays.
        dtype: A real floating-point dtype.

    Returns:
        The same structure; an array that has the dtype already is not copied.
    """
    xp = backend.xp
    if isinstance(state, dict):
        return {k: cast_floats(backend, part, dtype) for k, part in state.items()}
    if isinstance(state, tuple):
        parts = [cast_floats(backend, part, dtype) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if state.dtype == dtype or not xp.isdtype(state.dtype, "real floating"):
        return state
    return xp.astype(state, dtype)


def is_known_false(backend: Backend, condition: Array) -> bool:
    """Say whether a 0-d condition has a value, and that is False.

    To be asked of the computed condition, and not of what it is computed from: within
    a trace, what is computed from a constant has no value either.

    Args:
        backend: Backend of the condition.
        condition: 0-d boolean array.

    Returns:
        True if it is known to be False.
    """
    return not backend.is_traced(condition) and not bool(condition)


def commit(
    backend: Backend, ok: Array, new: T, old: T, error: Callable[[], Exception]
) -> T:
    """Return `new` if `ok`; otherwise raise, or under a trace keep `old`.

    Args:
        backend: Backend of the arrays.
        ok: 0-d boolean array.
        new: The updated state.
        old: The state before.
        error: Makes the exception.

    Returns:
        `new`, or under a trace whichever `ok` selects.

    Raises:
        Exception: That of `error`, if `ok` has a value and is False.
    """
    if is_known_false(backend, ok):
        raise error()
    return select(backend, ok, new, old) if backend.is_traced(ok) else new
