"""Gradients of the parameters of ``y = scale * x + shift``, with broadcasting.

Axes have the numbers of the outputs' axes; the batch is axis 0. The gradient for a
parameter is a sum over the axes along which the parameter is broadcast:

    d scale = sum over its broadcast axes of x * g,    d shift = sum of g.
"""

from typing import Any

from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.statistics.position_sums import sum_over
from kfac_core.typing import Array

Shape = tuple[int, ...]

FreeShape = tuple[int | None, ...]
"""The shape of one case's data; None: an axis of any size."""


def scale_and_shift_gradients(
    backend: Backend,
    x: Array,
    g: Array,
    dims_scale: tuple[int, ...],
    dims_shift: tuple[int, ...] | None,
) -> Array:
    """Return each case's gradient for the scale, then for the shift.

    Args:
        backend: Backend of both.
        x: Inputs, ``[batch, ...]``; axes of size one may be broadcast to those of `g`.
        g: Gradients for the outputs, ``[batch, ...]``.
        dims_scale: Axes along which the scale is broadcast.
        dims_shift: Axes along which the shift is broadcast; None without shift.

    Returns:
        ``[batch, n]``, each parameter flattened row-major.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 4.0]])
        >>> scale_and_shift_gradients(backend_of(x), x, g, (), (1,))
        array([[3., 8., 7.]])
    """
    of_scale = _summed(backend, x * g, dims_scale)
    if dims_shift is None:
        return of_scale
    return backend.xp.concat([of_scale, _summed(backend, g, dims_shift)], axis=1)


def kept_size(shape: FreeShape, dims: tuple[int, ...]) -> int:
    """Return the number of entries of one case without the axes `dims`.

    An axis of any size must be among `dims`.

    Example:
        >>> kept_size((5, 4, 3), (1, 2))
        3
    """
    size = 1
    for axis, length in enumerate(shape, start=1):
        # A compiler may not know the axes of a spec, and finds none `in` them.
        summed = any(axis == own for own in dims)
        size *= 1 if summed or length is None else length
    return size


def broadcast_dims(
    shape: Shape, output_shape: FreeShape, parameter: str, layer: str
) -> tuple[int, ...]:
    """Return the axes along which a parameter, aligned from the right, is broadcast.

    The axes follow from the outputs. ``tf.contrib.kfac`` derives them from the inputs,
    and gets the wrong ones where outputs are larger.

    Args:
        shape: Shape of the parameter, with or without an axis of size one for the
            batch; leading axes of size one may be left out.
        output_shape: Shape of one case's output. None stands for an axis of any size,
            along which the parameter must be broadcast.
        parameter: Name of the parameter, for the message.
        layer: Name of the layer, for the message.

    Returns:
        The axes, ascending.

    Raises:
        ShapeError: If the parameter has more axes than the outputs, an axis for cases,
            or a size that is neither one nor that of the outputs.

    Example:
        >>> broadcast_dims((3,), (5, 4, 3), "scale", "norm")
        (1, 2)
        >>> broadcast_dims((1, 5, 1, 3), (5, 4, 3), "scale", "norm")
        (2,)
    """
    rank = len(output_shape) + 1
    if len(shape) > rank:
        msg = (
            f"{layer}: the {parameter} has shape {shape}, more axes than the outputs"
            f" [batch, {_listed(output_shape)}]"
        )
        raise ShapeError(msg)
    aligned = (1,) * (rank - len(shape)) + tuple(shape)
    if aligned[0] != 1:
        msg = (
            f"{layer}: the {parameter} of shape {shape} has an axis for the cases, of"
            f" size {aligned[0]}, expected 1: parameters are those of all cases"
        )
        raise ShapeError(msg)
    dims = []
    for axis, (size, wanted) in enumerate(
        zip(aligned[1:], output_shape, strict=True), start=1
    ):
        if wanted is None and size != 1:
            msg = (
                f"{layer}: axis {axis} of the outputs [batch,"
                f" {_listed(output_shape)}] may have any size, but the {parameter} of"
                f" shape {shape} has {size} entries along it; give the size"
            )
            raise ShapeError(msg)
        if size not in {1, wanted}:
            msg = (
                f"{layer}: the {parameter} of shape {shape} has {size} entries along"
                f" axis {axis} of the outputs [batch, {_listed(output_shape)}],"
                f" expected 1 or {wanted}; if the outputs are larger than the inputs,"
                " give output_shape"
            )
            raise ShapeError(msg)
        if size != wanted or axis < rank - len(shape):
            dims.append(axis)
    return tuple(dims)


def _summed(backend: Backend, x: Array, dims: tuple[int, ...]) -> Array:
    """Return the sum over axes other than the first, ``[batch, n]``."""
    size = kept_size(tuple(x.shape[1:]), dims)
    total = sum_over(backend, x, dims)
    return backend.xp.reshape(total, (x.shape[0], size))


def _listed(shape: tuple[Any, ...]) -> str:
    return ", ".join(map(str, shape))
