"""Uses of images of several sizes: of one convolution on all levels of a pyramid.

Uses of one size can be one array; those of different sizes cannot. So the uses of a
tower are put into groups of one size, each of which is like a tower of its own. All of
them are of the same cases.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.rows.uses import arrays_of, folded
from kfac_core.rows.weights import UseWeights, use_weights
from kfac_core.typing import Array, Uses

Places: TypeAlias = tuple[tuple[int, ...], ...] | None
"""Which uses of a tower are of one size, group by group; None: all are."""


def places_of(tower: Any) -> Places:
    """Return which uses of a tower have one shape, in the order of their first use.

    Args:
        tower: One tower, in a form of `kfac_core.rows.uses`.

    Returns:
        For each shape the places of its uses; None if there is but one.

    Example:
        >>> import numpy as np
        >>> sizes = (4, 2, 4)
        >>> places_of(Uses(tuple(np.ones((1, size, 1)) for size in sizes)))
        ((0, 2), (1,))
    """
    if not isinstance(tower, Uses):
        return None
    found: dict[tuple[int, ...], list[int]] = {}
    for i, x in enumerate(arrays_of(tower)):
        found.setdefault(tuple(getattr(x, "shape", ())), []).append(i)
    return tuple(map(tuple, found.values())) if len(found) > 1 else None


def folded_by_size(
    backend: Backend,
    tower: Any,
    places: Places,
    rank: int,
    num_uses: int | None,
    argument: str,
    layer: str,
    *,
    batch_first: bool = False,
) -> tuple[list[Array], list[int]]:
    """Return one array of all rows for each size, and the number of its uses.

    Args:
        backend: Backend of the data.
        tower: One tower, in a form of `kfac_core.rows.uses`; `Uses` if there are
            places.
        places: Which uses belong together.
        rank: As in `folded`.
        num_uses: As in `folded`, of all sizes together.
        argument: As in `folded`.
        layer: As in `folded`.
        batch_first: As in `folded`.

    Returns:
        For each size ``[T * N, ...]``, and ``T``.

    Raises:
        ShapeError: As `folded`; and if uses have several sizes, and the tower is an
            array, or they are not of the same cases.
        ArgumentError: As `folded`.
    """
    order = {"batch_first": batch_first}
    if places is None:
        x, uses = folded(backend, tower, rank, num_uses, argument, layer, **order)
        return [x], [uses]
    number = sum(map(len, places))
    if not isinstance(tower, Uses) or len(arrays_of(tower)) != number:
        found = len(arrays_of(tower)) if isinstance(tower, Uses) else "an array"
        msg = (
            f"{layer}: the inputs are {number} uses of {len(places)} sizes, and"
            f" {argument} has {found}; give Uses of one array for each use"
        )
        raise ShapeError(msg)
    if num_uses not in {None, number}:
        msg = (
            f"{layer}: {argument} has {number} uses, expected num_uses = {num_uses};"
            " give num_uses=None to take it from the data"
        )
        raise ArgumentError(msg)
    pairs = [
        folded(backend, part, rank, None, argument, layer, **order)
        for part in _split(tower, places)
    ]
    check_same_cases([x.shape[0] // uses for x, uses in pairs], argument, layer)
    return [x for x, _ in pairs], [uses for _, uses in pairs]


def check_same_cases(cases: Sequence[int], argument: str, layer: str) -> None:
    """Check that uses are of the same cases.

    Args:
        cases: The number of cases of each use, or of the uses of each size.
        argument: Name of the data, for the message.
        layer: Name of the layer or factor, for the message.

    Raises:
        ShapeError: If numbers differ.
    """
    if len(set(cases)) > 1:
        msg = (
            f"{layer}: the uses in {argument} have {[*cases]} cases; expected the same"
            " cases in each, [cases, ...]"
        )
        raise ShapeError(msg)


def weights_by_size(
    backend: Backend,
    weights: Any,
    places: Places,
    shapes: Sequence[tuple[int, ...]],
    uses: Sequence[int],
    like: Array,
    layer: str,
    *,
    batch_first: bool = False,
) -> list[UseWeights]:
    """Return the weights of one tower for each size.

    Args:
        backend: Backend of the data.
        weights: As in `use_weights`; of uses of several sizes, `Uses` alone may have
            axes for locations.
        places: Which uses belong together.
        shapes: For each size ``(T * N, ..locations..)``.
        uses: For each size ``T``.
        like: Array that gives dtype and device of the result.
        layer: Name of the layer or factor, for the message.
        batch_first: Whether cases come before their uses.

    Returns:
        The weights.

    Raises:
        KfacError: As `use_weights`.
    """

    def checked(own: Any, shape: tuple[int, ...], number: int) -> UseWeights:
        order = {"batch_first": batch_first}
        return use_weights(backend, own, shape, number, like, layer, **order)

    number, cases = sum(uses), shapes[0][0] // uses[0]
    if places is None:
        return [checked(weights, shapes[0], number)]
    if isinstance(weights, Uses) and len(arrays_of(weights)) == number:
        return list(map(checked, _split(weights, places), shapes, uses))
    by_use = checked(weights, (number * cases,), number).by_use
    return [
        UseWeights(backend.xp.stack([by_use[i, ...] for i in own])) for own in places
    ]


def _split(tower: Uses, places: Sequence[Sequence[int]]) -> list[Uses]:
    """Return the uses of each size."""
    arrays = arrays_of(tower)
    return [Uses(tuple(arrays[i] for i in own)) for own in places]
