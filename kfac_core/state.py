"""States are nested tuples, and dictionaries, of arrays; updates are taken whole.

Functions take states that are checked, their arrays of one backend.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from kfac_core.backend import Backend
from kfac_core.errors import NotFiniteError
from kfac_core.typing import Array, DType

T = TypeVar("T")


def mapped(function: Callable[..., Any], *trees: Any) -> Any:
    """Return a function of the arrays in the same places of nested structures.

    Args:
        function: Of as many arrays as there are structures.
        trees: Nested tuples and dictionaries of arrays, of one structure.

    Returns:
        The same structure.
    """
    first = trees[0]
    if isinstance(first, dict):
        return {k: mapped(function, *(tree[k] for tree in trees)) for k in first}
    if not isinstance(first, tuple):
        return function(*trees)
    fields = [mapped(function, *same) for same in zip(*trees, strict=True)]
    # NamedTuples are made from positional fields, tuples from one iterable.
    return type(first)(*fields) if hasattr(first, "_fields") else tuple(fields)


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

    def chosen(new: Any, old: Any) -> Any:
        if new is old:
            return new  # within a trace, a choice would make a copy
        return backend.xp.where(condition, new, old)

    parts: T = mapped(chosen, new, old)
    return parts


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

    def cast(x: Any) -> Any:
        if x.dtype == dtype or not xp.isdtype(x.dtype, "real floating"):
            return x
        return xp.astype(x, dtype)

    return mapped(cast, state)


def without_graph(backend: Backend, tree: T) -> T:
    """Return arrays that keep nothing alive of what they were computed from.

    Args:
        backend: Backend of the arrays.
        tree: Nested tuples and dictionaries of arrays.

    Returns:
        The same structure; an array without a graph is the same array.
    """

    def cut(x: Any) -> Any:
        return backend.stop_gradient(x) if backend.has_graph(x) else x

    parts: T = mapped(cut, tree)
    return parts


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


def check_finite(backend: Backend, x: Array, argument: str, layer: str) -> None:
    """Check that an array holds no NaN and no infinity, where it has values.

    Args:
        backend: Backend of the array.
        x: Of any shape.
        argument: Its name, for the message.
        layer: Name of the layer or factor, for the message.

    Raises:
        NotFiniteError: If it holds one.
    """
    if is_known_false(backend, backend.is_finite(x)):
        msg = f"{layer}: {argument} holds NaN or infinity, expected finite numbers"
        raise NotFiniteError(msg)
