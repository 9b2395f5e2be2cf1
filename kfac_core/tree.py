"""Trees: nested tuples, named tuples and dictionaries of arrays, such as states."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kfac_core.backend import Backend
from kfac_core.typing import Array, DType

T = TypeVar("T")

_BRANCHES = (tuple, dict)


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


def named_parts(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all parts of a tree with their dotted names, each before what it holds.

    Args:
        tree: Tuples, named tuples, dictionaries and lists.
        name: Name of the tree itself.

    Yields:
        Name and part: the names of fields, the keys and the places that lead to it.
    """
    yield name, tree
    for key, part in _parts(tree) or ():
        yield from named_parts(part, f"{name}.{key}" if name else str(key))


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a tree, in the order of `leaves`, with their dotted names.

    Args:
        tree: Tuples, named tuples, dictionaries and lists.

    Yields:
        Name and leaf.

    Example:
        >>> dict(named_leaves({"a": (1.0, {"b": 2.0})}))
        {'a.0': 1.0, 'a.1.b': 2.0}
    """
    for name, part in named_parts(tree):
        if _parts(part) is None:
            yield name, part


def _parts(tree: Any) -> list[tuple[Any, Any]] | None:
    """Return the keys and the parts of a node; None of a leaf."""
    if isinstance(tree, Mapping):
        return list(tree.items())
    if not isinstance(tree, tuple | list):
        return None
    keys = getattr(tree, "_fields", range(len(tree)))
    return list(zip(keys, tree, strict=True))


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
    both = zip(leaves(new), leaves(old), strict=True)
    # Within a trace, a choice would make a copy of what is the same in both.
    pairs = [pair for pair in both if pair[0] is not pair[1]]
    if not pairs:
        return new
    found: Sequence[Any]
    if backend.chooses_once:
        news, olds = zip(*pairs, strict=True)
        found = backend.cond(condition, lambda: news, lambda: olds)
    else:
        found = [backend.xp.where(condition, x, y) for x, y in pairs]
    chosen = iter(found)
    whole: T = map(lambda x, y: x if x is y else next(chosen), new, old)
    return whole


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
    arrays = zip(*[leaves(tree) for tree in trees], strict=True)
    return filled(trees[0], iter([backend.xp.stack(list(same)) for same in arrays]))


def members(stacks: Any) -> list[Any]:
    """Return the members of a tree of stacks, as views where the library has these.

    Args:
        stacks: A tree of arrays with a leading axis of one length.

    Returns:
        A tree of the same structure for each place of that axis.
    """
    arrays = leaves(stacks)
    rows = range(arrays[0].shape[0])
    return [filled(stacks, iter([x[i, ...] for x in arrays])) for i in rows]


def unstack(
    backend: Backend, stacks: Any, likes: Sequence[Any], kept: Sequence[bool]
) -> list[Any]:
    """Return the members of a tree of stacks as separate trees; it undoes `stack`.

    Args:
        backend: Backend of the arrays.
        stacks: A tree of arrays with a leading axis over the members.
        likes: A tree of the same structure for each member.
        kept: For each array of a tree, whether that of `likes` is taken.

    Returns:
        The trees of `members`, as copies: a tree that is kept does not keep a stack
        alive.
    """
    columns: list[tuple[Any, ...]] = []
    every = [leaves(like) for like in likes]
    for place, (x, is_old) in enumerate(zip(leaves(stacks), kept, strict=True)):
        olds = tuple([own[place] for own in every])
        if is_old:
            columns.append(olds)
            continue
        columns.append(tuple(backend.members(x)))
    return [
        filled(like, iter([column[i] for column in columns]))
        for i, like in enumerate(likes)
    ]


def filled(tree: Any, arrays: Iterator[Any]) -> Any:
    """Return a tree of the same structure with other arrays, taken in order.

    Args:
        tree: The tree.
        arrays: As many arrays as it has, in the order of `leaves`.

    Returns:
        The tree.
    """
    if isinstance(tree, dict):
        return {key: filled(part, arrays) for key, part in tree.items()}
    if not isinstance(tree, tuple):
        return next(arrays)
    fields = [
        filled(part, arrays) if isinstance(part, _BRANCHES) else next(arrays)
        for part in tree
    ]
    return type(tree)(*fields) if hasattr(tree, "_fields") else tuple(fields)
