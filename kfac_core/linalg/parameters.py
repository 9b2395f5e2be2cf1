"""A layer's parameters as one matrix, or as one vector, and back.

The matrix has a row for each input, in the order of the weights' leading axes (kernel
height, kernel width, input channel), then one row for the bias if there is one, and a
column for each output. The vector holds the tensors one after another, each row-major.
Weights in another order come with their `Layout`; views bring them into this order, and
back.
"""

import math
from collections.abc import Sequence

from kfac_core.arguments.arrays import statistics_dtype
from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.linalg.layouts import Layout
from kfac_core.state import check_finite
from kfac_core.typing import Array, Params

Shapes = tuple[tuple[int, ...], ...]
"""Shapes of a layer's parameters, one for each tensor."""


def tensors_of(params: Params) -> tuple[Array, ...]:
    """Return a tuple of tensors, with one entry where `params` is a tensor itself."""
    return tuple(params) if isinstance(params, tuple | list) else (params,)


def num_entries(params: Params) -> int:
    """Return the number of entries of all tensors."""
    return sum(math.prod(tensor.shape) for tensor in tensors_of(params))


def check_params(
    params: Params, rows: int, columns: int, layer: str, layout: Layout | None = None
) -> None:
    """Check that parameters fill a matrix.

    Args:
        params: ``weights`` or ``(weights, bias)``.
        rows: Number of rows of the matrix, including the row of the bias.
        columns: Number of its columns.
        layer: Name of the layer, for the message.
        layout: How the weights lie; None: as the matrix, with any leading axes.

    Raises:
        ShapeError: If the sizes or the number of tensors are wrong.
    """
    if layout is None or layout.is_standard:
        own: object = getattr(params, "shape", None)
        if own == (rows, columns):
            return
    shapes = [tuple(tensor.shape) for tensor in tensors_of(params)]
    weights, *bias = shapes or [()]
    if layout is not None:
        check_weights(weights, layout, layer)
        weights = (math.prod(layout.standard_shape[:-1]), layout.standard_shape[-1])
    fits = (
        len(weights) > 0
        and weights[-1] == columns
        and math.prod(weights[:-1]) + len(bias) == rows
        and len(bias) <= 1
        and all(math.prod(shape) == columns for shape in bias)
    )
    if not fits:
        msg = (
            f"{layer}: vector has shapes {shapes}, expected weights, or (weights,"
            f" bias), that are together a matrix of {rows} rows and {columns} columns"
        )
        raise ShapeError(msg)


def check_weights(shape: tuple[int, ...], layout: Layout, layer: str) -> None:
    """Check that weights have the shape that their layout demands.

    Raises:
        ShapeError: If they have another shape.
    """
    if not layout.fits(shape):
        msg = (
            f"{layer}: vector has weights of shape {shape}, expected {layout}; give"
            " them in this layout, or the layer another one (layout=)"
        )
        raise ShapeError(msg)


def check_entries(
    params: Params, size: int, layer: str, layout: Layout | None = None
) -> None:
    """Check the number of entries of all tensors.

    Args:
        params: A tensor or a tuple of these.
        size: Number of entries.
        layer: Name of the layer, for the message.
        layout: How the first tensor, the weights, lies; None: in any shape.

    Raises:
        ShapeError: If the number is not `size`.
    """
    shapes = [tuple(tensor.shape) for tensor in tensors_of(params)]
    entries = num_entries(params)
    if entries != size or not shapes:
        msg = (
            f"{layer}: vector has shapes {shapes} with {entries} entries, expected"
            f" {size}"
        )
        raise ShapeError(msg)
    if layout is not None:
        check_weights(shapes[0], layout, layer)


def check_stack(
    backend: Backend,
    arrays: Sequence[Array],
    argument: str,
    label: str,
    axes: tuple[str, ...] = ("vectors",),
) -> None:
    """Check that arrays are real and finite, and have axes over vectors in front.

    Args:
        backend: Backend of the arrays.
        arrays: The arrays.
        argument: Name of the arrays, for the message.
        label: Name of the layer or the matrix, for the message.
        axes: What each of the axes in front is over, for the message.

    Raises:
        DTypeError: If an array does not hold real floating-point numbers.
        NotFiniteError: If one holds NaN or infinity.
        ShapeError: If their leading axes differ in length, or one has too few.
    """
    count = len(axes)
    shapes = [tuple(x.shape) for x in arrays]
    leading = {shape[:count] for shape in shapes}
    if len(leading) != 1 or any(len(shape) < count for shape in shapes):
        more = "one more axis" if count == 1 else f"{count} more axes"
        msg = (
            f"{label}: {argument} have the shapes {shapes}, expected those of the"
            f" parameters, each with {more} in front, over {' and '.join(axes)}"
        )
        raise ShapeError(msg)
    if 0 in leading.pop():
        msg = f"{label}: {argument} are none, of shapes {shapes}; give at least one"
        raise ShapeError(msg)
    for x in arrays:
        statistics_dtype(backend, x, argument, label)
        check_finite(backend, x, argument, label)


def params_to_matrix(
    backend: Backend, params: Params, layout: Layout | None = None
) -> Array:
    """Return ``[rows, columns]`` from ``weights`` or ``(weights, bias)``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> weights, bias = np.asarray([[1, 2], [4, 3]]), np.asarray([1, 2])
        >>> params_to_matrix(backend_of(bias), (weights, bias))
        array([[1, 2],
               [4, 3],
               [1, 2]])
    """
    xp = backend.xp
    weights, *bias = tensors_of(params)
    if bias and layout is not None and layout.axes[-1] == 0:
        # Outputs come first: a copy in the order in which the weights lie takes a sixth
        # of the time of one across the lines of the cache.
        own = xp.permute_dims(weights, (0, *layout.axes[:-1]))
        columns = (own.shape[0], math.prod(own.shape[1:]))
        bias_column = xp.reshape(bias[0], (-1, 1))
        joined = xp.concat([xp.reshape(own, columns), bias_column], axis=1)
        across: Array = xp.permute_dims(joined, (1, 0))
        return across
    matrix: Array = _standard(backend, weights, layout)
    if matrix.ndim != 2:
        rows = math.prod(matrix.shape[:-1])
        matrix = xp.reshape(matrix, (rows, matrix.shape[-1]))
    if bias:
        matrix = xp.concat([matrix, xp.reshape(bias[0], (1, -1))], axis=0)
    return matrix


def matrix_to_params(
    backend: Backend, matrix: Array, template: Params, layout: Layout | None = None
) -> Params:
    """Return `matrix` in the structure, shapes and layout of `template`."""
    xp = backend.xp
    weights, *bias = tensors_of(template)
    if bias:
        rows = matrix.shape[0] - len(bias)
        reshaped = _as_laid(backend, matrix[:rows, :], weights, layout)
    else:
        reshaped = _as_laid(backend, matrix, weights, layout)
    if not isinstance(template, tuple | list):
        return reshaped
    if not bias:
        return (reshaped,)
    return reshaped, xp.reshape(matrix[rows, :], bias[0].shape)


def params_to_vector(
    backend: Backend, params: Params, layout: Layout | None = None
) -> Array:
    """Return all entries of the tensors as one vector ``[n]``.

    With a layout the first tensor, the weights, is brought into the library's order.
    """
    xp = backend.xp
    first, *others = tensors_of(params)
    tensors = (_standard(backend, first, layout), *others)
    parts = [xp.reshape(tensor, (-1,)) for tensor in tensors]
    vector: Array = parts[0] if len(parts) == 1 else xp.concat(parts)
    return vector


def vector_to_params(
    backend: Backend, vector: Array, template: Params, layout: Layout | None = None
) -> Params:
    """Return `vector` in the structure, shapes and layout of `template`."""
    tensors = []
    start = 0
    for tensor in tensors_of(template):
        stop = start + math.prod(tensor.shape)
        part = vector[start:stop]
        tensors.append(_as_laid(backend, part, tensor, None if start else layout))
        start = stop
    return tuple(tensors) if isinstance(template, tuple | list) else tensors[0]


def _standard(backend: Backend, weights: Array, layout: Layout | None) -> Array:
    """Return weights in the library's order, as a view where the library has views."""
    if layout is None or layout.is_standard:
        return weights
    return backend.xp.permute_dims(weights, layout.axes)


def _as_laid(
    backend: Backend, entries: Array, template: Array, layout: Layout | None
) -> Array:
    """Return entries in the library's order as weights that lie as `template` does."""
    xp = backend.xp
    if layout is None or layout.is_standard:
        if entries.shape == template.shape:
            return entries
        return xp.reshape(entries, template.shape)
    standard = xp.reshape(entries, layout.standard_shape)
    return xp.permute_dims(standard, layout.inverse)
