"""How much the rows of a batch count: their weights, and the divisor of their sums."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import as_towers
from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.moving_average import MovingAverage
from kfac_core.rows.weights import (
    UseWeights,
    check_same_towers,
    in_rows,
    use_weights,
    weights_for,
)
from kfac_core.state import is_known_false
from kfac_core.typing import Array, RowWeights, Scalar


def count_of(
    backend: Backend,
    num_cases: Scalar | None,
    positions: float,
    like: Array,
    layer: str,
) -> Array | None:
    """Return the number of rows that the mean loss divides by, 0-d; None: all given.

    Args:
        backend: Backend of `like`.
        num_cases: Number of cases, positive; or None.
        positions: Number of rows of a case: its locations and uses.
        like: Array that gives dtype and device.
        layer: Name of the layer or factor, for the message.

    Raises:
        ArgumentError: If the number has a value, and that is not positive.
    """
    if num_cases is None:
        return None
    most = float(backend.xp.finfo(like.dtype).max) / max(positions, 1)
    count = as_scalar(backend, num_cases, like, "num_cases", layer, upper=most)
    if is_known_false(backend, count > 0):
        msg = f"{layer}: num_cases is {num_cases}, expected a positive number"
        raise ArgumentError(msg)
    return count * positions


def counted_uses(
    backend: Backend,
    weights: Any,
    shapes: Sequence[tuple[int, ...]],
    num_uses: int,
    num_cases: Scalar | None,
    like: Array,
    layer: str,
    *,
    batch_first: bool,
) -> tuple[tuple[Array, ...] | None, Array | None]:
    """Return weights and number of cases where each use counts as a case of its own.

    Args:
        backend: Backend of the data.
        weights: None, or for each tower as in `use_weights`.
        shapes: For each tower ``(T * N, ..locations..)``.
        num_uses: ``T``.
        num_cases: As in `count_of`.
        like: Array that gives dtype and device.
        layer: Name of the layer or factor, for the message.
        batch_first: Whether cases come before their uses, in weights and in data.

    Returns:
        The weights of each tower, ``[T * N]`` or ``[T * N, locations]``; and the number
        of cases times ``T``.

    Raises:
        KfacError: As `weights_for` and `count_of`.
    """
    count = count_of(backend, num_cases, num_uses, like, layer)
    own = weights_by_use(
        backend, weights, shapes, num_uses, like, layer, batch_first=batch_first
    )
    if own is None:
        return None, count
    return tuple(in_rows(backend, w, case_slow=batch_first) for w in own), count


def weights_by_use(
    backend: Backend,
    weights: Any,
    shapes: Sequence[tuple[int, ...]],
    num_uses: int,
    like: Array,
    layer: str,
    *,
    batch_first: bool,
) -> tuple[UseWeights, ...] | None:
    """Return the weights of all towers of a shared layer; None for None.

    Arguments and errors are those of `use_weights`, for each tower.
    """
    if weights is None:
        return None
    towers = as_towers(weights)
    check_same_towers(towers, shapes, layer)
    return tuple(
        use_weights(backend, w, shape, num_uses, like, layer, batch_first=batch_first)
        for w, shape in zip(towers, shapes, strict=True)
    )


def weights_by_case(
    backend: Backend,
    weights: Any,
    shapes: Sequence[tuple[int, ...]],
    num_uses: int,
    like: Array,
    layer: str,
    *,
    batch_first: bool | None,
) -> list[Array | None]:
    """Return the weights of all towers by case and position.

    Args:
        backend: Backend of the data.
        weights: None; or for each tower ``[N]``, ``[N, ..locations..]``, or as in
            `use_weights`.
        shapes: For each tower ``(T * N, ..locations..)``.
        num_uses: ``T``.
        like: Array that gives dtype and device.
        layer: Name of the layer, for the message.
        batch_first: Whether cases come before their uses; None: the layer has no uses.

    Returns:
        For each tower ``[N]``, ``[N, T * locations]``, or None.

    Raises:
        KfacError: As `weights_for`.
    """
    if weights is None:
        return [None for _ in shapes]
    towers, xp = as_towers(weights), backend.xp
    check_same_towers(towers, shapes, layer)
    found: list[Array | None] = []
    for own, (rows, *locations) in zip(towers, shapes, strict=True):
        shape = (rows // num_uses, *locations)
        if batch_first is None or getattr(own, "shape", None) == shape[:1]:
            known = weights_for(backend, (own,), [shape], like, layer)
            found.extend(known or ())
            continue
        whole = (rows, *locations)
        by_use = use_weights(
            backend, own, whole, num_uses, like, layer, batch_first=batch_first
        ).by_use
        if by_use.ndim == 2 and locations:
            each = (*by_use.shape, math.prod(locations))
            by_use = xp.broadcast_to(by_use[:, :, None], each)
        moved = xp.permute_dims(by_use, (1, 0, *range(2, by_use.ndim)))
        found.append(xp.reshape(moved, (shape[0], -1)))
    return found


class Counts(NamedTuple):
    """How much the rows of a batch count, for both factors of a Kronecker product.

    Attributes:
        of_inputs: Options of the input factor's `update_cov`; empty without weights.
        of_outputs: Options of the output factor's `update_cov`.
        mean_weight: Sum of the weights of the rows of inputs, divided by the number of
            rows that the mean loss counts.
        uses: Number of locations and uses of a case.
    """

    of_inputs: Mapping[str, Any]
    of_outputs: Mapping[str, Any]
    mean_weight: Scalar
    uses: float


def counted(
    backend: Backend,
    weights: RowWeights,
    shapes: Sequence[tuple[int, ...]],
    uses: float,
    num_cases: Scalar | None,
    like: Array,
    layer: str,
) -> Counts:
    """Return how much the rows of a batch count.

    Args:
        backend: Backend of the data.
        weights: The weights of inputs, as `weights_for` returns them; and of gradients,
            as the factor takes them.
        shapes: For each tower ``(rows, ..positions..)``.
        uses: Number of locations and uses of a case.
        num_cases: As in `count_of`.
        like: Array that gives dtype and device.
        layer: Name of the layer, for the message.

    Returns:
        The counts, both factors with the same `num_cases`. Under a trace the mean
        weight is NaN where it would be refused.

    Raises:
        ArgumentError: As `count_of`; and if the mean weight is known, and neither zero
            nor a normal number of the dtype.
        ShapeError: If there are weights or `num_cases`, and any number of rows.
    """
    if num_cases is None and weights.inputs is None and weights.gradients is None:
        return Counts({}, {}, 1.0, uses)
    count = count_of(backend, num_cases, uses, like, layer)
    given: dict[str, Any] = {} if num_cases is None else {"num_cases": num_cases}
    of_inputs, of_outputs = (
        given if own is None else given | {"weights": own} for own in weights
    )
    sizes: list[Any] = [shape[0] for shape in shapes]
    if any(size is None for size in sizes):
        msg = (
            f"{layer}: weights and num_cases need the number of rows, which is of any"
            " length (None); leave them out, or give the axis of cases a size"
        )
        raise ShapeError(msg)
    rows = sum(map(math.prod, shapes))
    total: Any = rows
    if weights.inputs is not None:
        total = 0.0
        for given_weights, shape in zip(weights.inputs, shapes, strict=True):
            is_by_use = isinstance(given_weights, UseWeights)
            w = given_weights.by_use if is_by_use else given_weights
            repeated = math.prod(shape) // max(math.prod(w.shape), 1)
            total = total + backend.xp.sum(w) * repeated
    elif count is None:
        return Counts(of_inputs, of_outputs, 1.0, uses)
    mean = _checked(backend, total / (rows if count is None else count), total, layer)
    return Counts(of_inputs, of_outputs, mean, uses)


def _checked(backend: Backend, mean: Array, total: Any, layer: str) -> Array:
    """Return the mean weight of a batch, which must be known where it counts.

    Less than a normal number would be zero, as if no row counted, to some compilers.

    Raises:
        _out_of_range: If it is known, and neither zero nor a normal number.
    """
    xp, info = backend.xp, backend.xp.finfo(mean.dtype)
    valid = xp.isfinite(mean) & ((mean >= float(info.smallest_normal)) | (total == 0))
    if is_known_false(backend, valid):
        raise _out_of_range(mean, layer)
    if backend.is_traced(valid):
        mean = xp.where(valid, mean, xp.full_like(mean, math.nan))
    return mean


def check_mean_weight(
    backend: Backend, sample: Scalar, average: MovingAverage, layer: str
) -> Array | None:
    """Return whether an average of mean weights is in the range after a sample.

    Args:
        backend: Backend of the average.
        sample: The mean weight of a batch; a float where no row has a weight.
        average: The average, the sample included.
        layer: Name of the layer, for the message.

    Returns:
        0-d boolean; None where no row has a weight.

    Raises:
        _out_of_range: If it is known, and not finite.
    """
    if isinstance(sample, float):
        return None
    ok = backend.xp.isfinite(average.total)
    if is_known_false(backend, ok):
        raise _out_of_range(average.total, layer)
    return ok


def _out_of_range(mean: Array, layer: str) -> ArgumentError:
    msg = (
        f"{layer}: weights and num_cases make the mean weight of a row {float(mean):g},"
        f" which is no normal number of {mean.dtype}; scale weights, or num_cases,"
        " closer to one. The state is unchanged"
    )
    return ArgumentError(msg)


def mean_weight(backend: Backend, weights: MovingAverage) -> Array:
    """Return the mean weight of a row, 0-d; one where no row counts.

    Args:
        backend: Backend of the average.
        weights: Moving average of the mean weights of batches.
    """
    total, number = weights
    known = backend.known_number(total)
    if known is not None and known > 0:
        return total / number
    one = backend.xp.ones_like(total)
    # If all weights are zero, so are the statistics, and any multiple of them.
    mean: Array = backend.xp.where(total > 0, total, one)
    return mean / backend.xp.where(total > 0, number, one)
