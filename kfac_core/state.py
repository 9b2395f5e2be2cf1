"""Updates of a state are taken whole, or not at all; what is refused is told of.

Functions take states that are checked, their arrays of one backend.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.errors import NotFiniteError
from kfac_core.typing import Array

T = TypeVar("T")


def all_finite(backend: Backend, state: Any, like: Array) -> Array:
    """Return 0-d: whether every entry of every array is finite.

    Args:
        backend: Backend of the arrays.
        state: A tree of arrays, which may be empty.
        like: Any array, for the device of the answer. Where it is a 0-d boolean array,
            and known to be True as the answer is, it is the answer itself.

    Returns:
        0-d boolean array.
    """
    ok = None
    for part in tree.leaves(state):
        if backend.known_finite(part):
            continue
        finite = backend.is_finite(part)
        ok = finite if ok is None else ok & finite
    return true_like(backend, like) if ok is None else ok


def true_like(backend: Backend, like: Array) -> Array:
    """Return True, 0-d: the array itself where it is a flag, known to be True."""
    if backend.known_number(like) is np.True_:
        return like
    xp, device = backend.xp, backend.creation_device(like)
    true: Array = xp.ones((), dtype=xp.bool, device=device)
    return true


def kept(x: Array) -> Array:
    """Return an array as a state keeps it: a scalar of NumPy as a 0-d array.

    Args:
        x: An array, or a scalar of NumPy.

    Returns:
        The array itself, or the scalar as a 0-d array.

    Example:
        >>> kept(np.asarray(1.0) + 1)
        array(2.)
    """
    found: Any = np.asarray(x) if isinstance(x, np.generic) else x
    return found  # type: ignore[no-any-return]


def without_graph(backend: Backend, arrays: T) -> T:
    """Return arrays that do not keep alive what they were computed from.

    Args:
        backend: Backend of the arrays.
        arrays: A tree of arrays.

    Returns:
        The same structure; an array without a graph is the same array.
    """

    def cut(x: Any) -> Any:
        return backend.stop_gradient(x) if backend.has_graph(x) else x

    parts: T = tree.map(cut, arrays)
    return parts


def is_known_false(backend: Backend, condition: Array) -> bool:
    """Return whether a 0-d condition has a value that is False.

    Test the computed condition, and not the arrays it is computed from: within a trace,
    a result of constants has no value either.

    Args:
        backend: Backend of the condition.
        condition: 0-d boolean array.

    Returns:
        True if it is known to be False.
    """
    return not backend.is_traced(condition) and not bool(condition)


_leaves_choice: ContextVar[bool] = ContextVar("_leaves_choice", default=False)


def chosen_together(backend: Backend) -> AbstractContextManager[object]:
    """Leave the choice under a trace between new and old states to the caller.

    Within it, what updates a part of a state returns the new part and its flag. The
    caller chooses once between all that is new and all that is old. Otherwise there
    would be a choice for each part, and of these for each whole.

    Args:
        backend: Backend of the states.

    Returns:
        The context; without effect where the backend does not choose once.
    """
    return _left_choice() if backend.chooses_once else nullcontext()


@contextmanager
def _left_choice() -> Iterator[None]:
    token = _leaves_choice.set(True)
    try:
        yield
    finally:
        _leaves_choice.reset(token)


def chosen(backend: Backend, ok: Array, new: T, old: T) -> T:
    """Return `new` or `old` under a trace, as `ok` says, or as the caller will.

    Args:
        backend: Backend of the arrays.
        ok: 0-d boolean array, traced.
        new: The updated state.
        old: The state before.

    Returns:
        The state; `new` within `chosen_together`.
    """
    if backend.chooses_once and _leaves_choice.get():
        return new
    return tree.where(backend, ok, new, old)


def commit(
    backend: Backend,
    ok: Array,
    new: T,
    old: T,
    error: Callable[[], Exception],
    flag: str | None = None,
) -> T:
    """Return `new` if `ok`; otherwise raise, or under a trace keep `old`.

    Args:
        backend: Backend of the arrays.
        ok: 0-d boolean array.
        new: The updated state.
        old: The state before.
        error: Makes the exception to raise.
        flag: Field of the state that is to hold `ok`; None: none.

    Returns:
        `new`, or under a trace whichever `ok` selects.

    Raises:
        Exception: The exception of `error`, if `ok` has a value and is False.
    """
    if backend.is_traced(ok):
        new = chosen(backend, ok, new, old)
    elif not bool(ok):
        raise error()
    state: Any = new
    return new if flag is None else state._replace(**{flag: kept(ok)})


def check_finite(backend: Backend, x: Array, argument: str, layer: str) -> None:
    """Check that an array with values holds neither NaN nor infinity.

    Args:
        backend: Backend of the array.
        x: Any shape.
        argument: Name of the array, for the message.
        layer: Name of the layer or factor, for the message.

    Raises:
        NotFiniteError: If it holds NaN or infinity.
    """
    if backend.known_finite(x):
        return
    if is_known_false(backend, backend.is_finite(x)):
        msg = f"{layer}: {argument} holds NaN or infinity, expected finite numbers"
        raise NotFiniteError(msg)
