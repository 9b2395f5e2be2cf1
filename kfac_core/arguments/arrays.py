"""Checks of arguments: every message names the layer, what it got, and what to do.

Shapes, dtypes and devices are always checked; values only where they exist, which is
outside of a trace.
"""

from typing import Any

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, BackendError, DTypeError, ShapeError
from kfac_core.registry import BACKEND_OF_TYPE, backend_of
from kfac_core.typing import Array, DType, Pair, Uses

_SEQUENCES = (tuple, list)
_ONE_TOWER = (Uses, Pair)  # these are tuples too


def backend_for(layer: str, arguments: str, *arrays: Any) -> Backend:
    """Return the backend of all arrays; an error names the layer and the arguments.

    Args:
        layer: Name of the layer or factor, for the message.
        arguments: Names of the arguments that hold the arrays, for the message.
        *arrays: Arrays of one library on one device, at least one.

    Returns:
        The backend.

    Raises:
        BackendError: As in `kfac_core.registry.backend_of`.
    """
    known = BACKEND_OF_TYPE.get(type(arrays[0])) if arrays else None
    if known is not None and known.are_alike(arrays):
        return known  # as `backend_of` does: every verb comes here
    try:
        return backend_of(*arrays)
    except BackendError as error:
        msg = f"{layer}: {arguments}: {error}"
        raise BackendError(msg) from None


class _NoSources(tuple[()]):
    """The type of `NO_SOURCES`, which no user's data have."""


NO_SOURCES: Any = _NoSources()
"""In place of gradients, where a block needs none: `as_sources` finds no source."""


def as_towers(data: Any) -> tuple[Any, ...]:
    """Return a tuple over towers, with one entry where `data` is an array.

    Example:
        >>> as_towers(1.0), as_towers([1.0, 2.0])
        ((1.0,), (1.0, 2.0))
    """
    if isinstance(data, _SEQUENCES) and not isinstance(data, _ONE_TOWER):
        return tuple(data)
    return (data,)


def as_sources(data: Any) -> tuple[tuple[Any, ...], ...]:
    """Return a tuple over sources of tuples over towers.

    A tuple of arrays is one source of several towers.

    Example:
        >>> as_sources(1.0), as_sources((1.0, 2.0)), as_sources(((1.0,), (2.0,)))
        (((1.0,),), ((1.0, 2.0),), ((1.0,), (2.0,)))
    """
    if data is NO_SOURCES:
        return ()
    if not isinstance(data, _SEQUENCES) or isinstance(data, _ONE_TOWER):
        return ((data,),)
    for own in data:
        if isinstance(own, _SEQUENCES) and not isinstance(own, _ONE_TOWER):
            return tuple(map(as_towers, data))
    return (tuple(data),)


def statistics_dtype(backend: Backend, x: Array, argument: str, layer: str) -> DType:
    """Return the dtype for statistics of `x`: that of `x`, at least float32.

    Raises:
        DTypeError: If `x` does not hold real numbers of half, single or double
            precision.
    """
    xp, dtype = backend.xp, x.dtype
    if dtype == xp.float32 or dtype == xp.float64:
        return dtype
    # Longer dtypes are refused; the byte order becomes native.
    bits = backend.finfo(dtype).bits if backend.isdtype(dtype, "real floating") else 0
    if bits == 64:
        return xp.float64
    if 0 < bits <= 32:
        return xp.float32
    msg = (
        f"{layer}: {argument} has dtype {dtype}, expected a real floating-point dtype,"
        " float32 or float64, or a half precision; convert it first"
    )
    raise DTypeError(msg)


def check_shape(
    x: Array, expected: tuple[int | str, ...], argument: str, layer: str
) -> None:
    """Compare a shape with sizes and names of free axes.

    Args:
        x: The array.
        expected: For each axis a size, or a name if any size will do.
        argument: Name of the array, for the message.
        layer: Name of the layer or factor, for the message.

    Raises:
        ShapeError: If the rank or a size differs.
    """
    if len(x.shape) == len(expected):
        for size, wanted in zip(x.shape, expected, strict=True):
            if size != wanted and not isinstance(wanted, str):
                break
        else:
            return
    axes = ", ".join(map(str, expected))
    msg = (
        f"{layer}: {argument} has shape {tuple(x.shape)}, expected [{axes}];"
        " reshape it, or build the layer with its sizes"
    )
    raise ShapeError(msg)


def as_statistics(
    backend: Backend, x: Array, dtype: DType, argument: str, layer: str
) -> Array:
    """Return `x` as data for a state of `dtype`, half precision promoted.

    Raises:
        DTypeError: If `x` is wider than the state, which would lose its digits.
    """
    if x.dtype == dtype:
        return backend.stop_gradient(x)
    xp = backend.xp
    wanted = statistics_dtype(backend, x, argument, layer)
    if backend.finfo(wanted).bits > backend.finfo(dtype).bits:
        msg = (
            f"{layer}: {argument} has dtype {x.dtype}, but the state holds {dtype};"
            f" cast {argument}, or create the state with init(like={argument})"
        )
        raise DTypeError(msg)
    return xp.astype(backend.stop_gradient(x), dtype)


def check_towers(
    backend: Backend,
    towers: tuple[Array, ...],
    dtype: DType,
    expected: tuple[int | str, ...],
    argument: str,
    layer: str,
    *,
    any_length: bool = False,
) -> tuple[Array, ...]:
    """Check the form of towers, and return them as data for a state of `dtype`.

    Args:
        backend: Backend of the towers.
        towers: Arrays, whose first axis is the batch.
        dtype: Dtype of the state.
        expected: As in `check_shape`.
        argument: Name of the towers, for the message.
        layer: Name of the layer or factor, for the message.
        any_length: Whether the number of rows may be unknown: None in a shape.

    Returns:
        The towers, half precision promoted, cut off from differentiation.

    Raises:
        ShapeError: If a shape is wrong, or no tower has a row.
        DTypeError: If a dtype is not real, or wider than the state's.
    """
    for x in towers:
        check_shape(x, expected, argument, layer)
    return as_batch(backend, towers, dtype, argument, layer, any_length=any_length)


def as_batch(
    backend: Backend,
    towers: tuple[Array, ...],
    dtype: DType,
    argument: str,
    layer: str,
    *,
    any_length: bool = False,
) -> tuple[Array, ...]:
    """Return towers as `check_towers` does, if their shapes are checked already."""
    if len(towers) == 1 and towers[0].shape and towers[0].shape[0]:
        return (as_statistics(backend, towers[0], dtype, argument, layer),)
    check_not_empty(towers, argument, layer, any_length=any_length)
    return tuple(as_statistics(backend, x, dtype, argument, layer) for x in towers)


def check_not_empty(
    towers: tuple[Array, ...], argument: str, layer: str, *, any_length: bool = False
) -> None:
    """Check that there is a row in some tower.

    Raises:
        ShapeError: If there is no row, or any number of them without `any_length`.
    """
    if not any_length:
        check_has_length(towers, argument, layer)
    rows = 0
    for x in towers:
        check_has_cases(x, argument, layer)
        size: int | None = x.shape[0]
        if size is None:  # of any length, which may be one
            return
        rows += size
    if not rows:
        msg = (
            f"{layer}: {argument} has no rows: an empty batch has no mean; skip the"
            " update"
        )
        raise ShapeError(msg)


def check_has_length(towers: tuple[Array, ...], argument: str, layer: str) -> None:
    """Check that the number of cases is known.

    Raises:
        ShapeError: If the first axis of an array has any length.
    """
    for x in towers:
        axis: tuple[Any, ...] = x.shape[:1]
        if axis == (None,):
            msg = (
                f"{layer}: {argument} has shape {tuple(x.shape)}, with an axis of cases"
                " of any length (None), which fully connected layers without weights"
                " take alone; give the axis a size"
            )
            raise ShapeError(msg)


def check_has_cases(x: Array, argument: str, layer: str) -> None:
    """Check that an array has an axis for cases.

    Raises:
        ShapeError: If it is 0-d.
    """
    if not x.shape:
        msg = (
            f"{layer}: {argument} has shape (), expected an axis of cases first;"
            " reshape it"
        )
        raise ShapeError(msg)


def check_paired(
    inputs: tuple[Array, ...],
    gradients: tuple[Array, ...],
    layer: str,
    argument: str = "inputs",
    *,
    any_length: bool = False,
) -> None:
    """Check that inputs and gradients have the same towers of the same batch sizes.

    Args:
        inputs: Arrays of the inputs.
        gradients: Arrays of the gradients.
        layer: Name of the layer or factor, for the message.
        argument: Name of the inputs, for the message.
        any_length: As in `check_towers`.

    Raises:
        ShapeError: If the number of towers, or of rows in a tower, differs.
    """
    if len(inputs) == len(gradients) == 1:
        axis: tuple[Any, ...] = inputs[0].shape[:1]
        if axis == gradients[0].shape[:1] != ():
            if axis[0] is None and not any_length:
                check_has_length(inputs, argument, layer)
            return
    for name, towers in ((argument, inputs), ("outputs_grads", gradients)):
        for x in towers:
            check_has_cases(x, name, layer)
    rows = [x.shape[0] for x in inputs]
    others = [g.shape[0] for g in gradients]
    if rows != others:
        msg = (
            f"{layer}: {argument} have {rows} rows (one number a tower) and the"
            f" gradients, outputs_grads, {others}; give both for the same cases"
        )
        raise ShapeError(msg)


def check_indices(
    backend: Backend,
    indices: Array,
    size: int,
    argument: str,
    layer: str,
    least: int | None = 0,
) -> None:
    """Check that integers are in ``[0, size)``; their values only where they exist.

    Args:
        backend: Backend of the indices.
        indices: Any shape.
        size: Number of things that the indices point to.
        argument: Name of the indices, for the message.
        layer: Name of the layer or loss, for the message.
        least: The smallest index that is allowed; None: any.

    Raises:
        DTypeError: If the indices are not integers.
        ArgumentError: If an index is out of range.
    """
    xp = backend.xp
    if not backend.isdtype(indices.dtype, "integral"):
        msg = f"{layer}: {argument} has dtype {indices.dtype}, expected integers"
        raise DTypeError(msg)
    if 0 in indices.shape:
        return
    low, high = xp.min(indices), xp.max(indices)
    # Within a trace, a result of constants has no value either.
    if backend.is_traced(low):
        return
    too_low = least is not None and int(low) < least
    if too_low or int(high) >= size:
        wanted = f"at most {size - 1}" if least is None else f"{least} to {size - 1}"
        msg = (
            f"{layer}: {argument} are from {int(low)} to {int(high)}, expected {wanted}"
        )
        raise ArgumentError(msg)
