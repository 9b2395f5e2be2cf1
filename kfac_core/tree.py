"""Trees: nested tuples, named tuples and dictionaries of arrays, such as states."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kfac_core.backend import Backend
from kfac_core.typing import Array, DType

T = TypeVar("T")


def map(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to the arrays in the same places of trees.

    Args:
        function: Takes one array from each tree.
        trees: Trees of one structure.

    Returns:
        A tree of that structure.
    """
    first = trees[0]
    if isinstance(first, dict):
        return {k: map(function, *(tree[k] for tree in trees)) for k in first}
    if not isinstance(first, tuple):
        return function(*trees)
    fields = [map(function, *same) for same in zip(*trees, strict=True)]
    # NamedTuples are made from positional fields, tuples from one iterable.
    return type(first)(*fields) if hasattr(first, "_fields") else tuple(fields)


def leaves(tree: Any) -> list[Any]:
    """Return the arrays of a tree in order: whatever is not a tuple or a dictionary.

    Args:
        tree: The tree.

    Returns:
        The arrays; an empty list for an empty tree.
    """
    found, parts = [], [tree]
    while parts:  # every verb walks its state: a call for each part would cost more
        part = parts.pop()
        if isinstance(part, tuple):
            parts.extend(part[::-1])
        elif isinstance(part, dict):
            parts.extend([*part.values()][::-1])
        else:
            found.append(part)
    return found


def first(tree: Any) -> Any:
    """Return the first array of a tree that begins with one, as states do."""
    while isinstance(tree, tuple):
        tree = tree[0]
    return tree


def where(backend: Backend, condition: Array, new: T, old: T) -> T:
    """Return `new` where the 0-d `condition` holds and `old` elsewhere.

    Args:
        backend: Backend of the arrays.
        condition: 0-d boolean array.
        new: A tree.
        old: A tree of the same structure and shapes.

    Returns:
        A tree of that structure.
    """

    def chosen(new: Any, old: Any) -> Any:
        if new is old:
            return new  # within a trace, a choice would make a copy
        return backend.xp.where(condition, new, old)

    found: T = map(chosen, new, old)
    return found


def cast(backend: Backend, tree: Any, dtype: DType) -> Any:
    """Return a tree with all its floating-point numbers in one dtype.

    Args:
        backend: Backend of the arrays.
        tree: The tree.
        dtype: A real floating-point dtype.

    Returns:
        A tree of the same structure; an array that has the dtype is not copied.
    """
    xp = backend.xp

    def converted(x: Any) -> Any:
        if x.dtype == dtype or not backend.isdtype(x.dtype, "real floating"):
            return x
        return xp.astype(x, dtype)

    return map(converted, tree)


def stack(backend: Backend, trees: Sequence[Any]) -> Any:
    """Return trees as one tree of stacks.

    Args:
        backend: Backend of the arrays.
        trees: Trees of the same structure and shapes; at least one.

    Returns:
        A tree of that structure; each array has a leading axis over the trees.
    """
    return map(lambda *same: backend.xp.stack(list(same)), *trees)


def members(stacks: Any) -> list[Any]:
    """Return the members of a tree of stacks, as views where the library has these.

    Args:
        stacks: A tree of arrays with a leading axis of one length.

    Returns:
        A tree of the same structure for each place of that axis.
    """
    count = leaves(stacks)[0].shape[0]
    return [map(lambda x, i=i: x[i, ...], stacks) for i in range(count)]


def unstack(backend: Backend, stacks: Any) -> list[Any]:
    """Return the members of a tree of stacks as separate trees; it undoes `stack`.

    Args:
        backend: Backend of the arrays.
        stacks: A tree of arrays with a leading axis of one length.

    Returns:
        The trees of `members`, as copies: a tree that is kept does not keep a stack
        alive.
    """
    xp = backend.xp

    def own(x: Any) -> Any:
        return xp.astype(x, x.dtype, copy=True)

    return [map(own, member) for member in members(stacks)]
