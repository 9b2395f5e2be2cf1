"""A layer's parameters as one matrix, or as one vector, and back.

The matrix has a row for each input, in the order of the weights' leading axes
(kernel height, kernel width, input channel), then one row for the bias if there is
one, and a column for each output. The vector is the tensors one after another, each
row-major.
"""

import math

from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.typing import Array, Params

Shapes = tuple[tuple[int, ...], ...]
"""Shapes of a layer's parameters, one for each tensor."""


def tensors_of(params: Params) -> tuple[Array, ...]:
    """Return a tuple of tensors, of one where `params` is a tensor itself."""
    return tuple(params) if isinstance(params, tuple | list) else (params,)


def num_entries(params: Params) -> int:
    """Return the number of entries of all tensors."""
    return sum(math.prod(tensor.shape) for tensor in tensors_of(params))


def check_params(params: Params, rows: int, columns: int, layer: str) -> None:
    """Check that parameters are those of a matrix.

    Args:
        params: ``weights`` or ``(weights, bias)``.
        rows: Rows of the matrix, that of the bias included.
        columns: Its columns.
        layer: Name of the layer, for the message.

    Raises:
        ShapeError: If they have other sizes, or are no or too many tensors.
    """
    shapes = [tuple(tensor.shape) for tensor in tensors_of(params)]
    weights, *bias = shapes or [()]
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


def check_entries(params: Params, size: int, layer: str) -> None:
    """Check the number of entries of all tensors.

    Args:
        params: A tensor or a tuple of these.
        size: Number of entries.
        layer: Name of the layer, for the message.

    Raises:
        ShapeError: If it is another.
    """
    shapes = [tuple(tensor.shape) for tensor in tensors_of(params)]
    entries = num_entries(params)
    if entries != size or not shapes:
        msg = (
            f"{layer}: vector has shapes {shapes} with {entries} entries, expected"
            f" {size}"
        )
        raise ShapeError(msg)


def params_to_matrix(backend: Backend, params: Params) -> Array:
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
    rows = math.prod(weights.shape[:-1])
    matrix: Array = xp.reshape(weights, (rows, weights.shape[-1]))
    if bias:
        matrix = xp.concat([matrix, xp.reshape(bias[0], (1, -1))], axis=0)
    return matrix


def matrix_to_params(backend: Backend, matrix: Array, template: Params) -> Params:
    """Return `matrix` in the structure and shapes of `template`."""
    xp = backend.xp
    weights, *bias = tensors_of(template)
    rows = math.prod(weights.shape[:-1])
    reshaped: Array = xp.reshape(matrix[:rows, :], weights.shape)
    if not isinstance(template, tuple | list):
        return reshaped
    if not bias:
        return (reshaped,)
    return reshaped, xp.reshape(matrix[rows, :], bias[0].shape)


def params_to_vector(backend: Backend, params: Params) -> Array:
    """Return all entries of the tensors as one vector ``[n]``."""
    xp = backend.xp
    parts = [xp.reshape(tensor, (-1,)) for tensor in tensors_of(params)]
    vector: Array = parts[0] if len(parts) == 1 else xp.concat(parts)
    return vector


def vector_to_params(backend: Backend, vector: Array, template: Params) -> Params:
    """Return `vector` in the structure and shapes of `template`."""
    tensors = []
    start = 0
    for tensor in tensors_of(template):
        stop = start + math.prod(tensor.shape)
        tensors.append(backend.xp.reshape(vector[start:stop], tensor.shape))
        start = stop
    return tuple(tensors) if isinstance(template, tuple | list) else tensors[0]
