"""The positions of a loss's inputs, and what a mask does to them.

A mask holds weights of positions. A position of weight zero is padding, and may hold
anything, even NaN. So it is filled with valid numbers before anything is computed, and
the results are multiplied by zero.
"""

import math
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import backend_for, check_shape, statistics_dtype
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, BackendError, DTypeError, ShapeError
from kfac_core.state import is_known_false
from kfac_core.typing import Array, DType, LossInputs


class Positions(NamedTuple):
    """Inputs of a loss, ready to compute with, and the weights of their positions.

    Attributes:
        backend: Backend of the arrays.
        inputs: Structured as the user gave them: ``[batch, ..., n]``, all of one dtype,
            at least float32, and one where the mask is zero.
        weights: ``[batch, ..., 1]``, in the dtype of the inputs; None without a mask.
            Within a trace, an invalid weight becomes NaN, and so do its results.
    """

    backend: Backend
    inputs: Any
    weights: Array | None

    @property
    def dtype(self) -> DType:
        """The dtype of all that is computed."""
        return input_arrays(self.inputs)[0].dtype

    def filled(self, x: Array, *, by_position: bool = False) -> Array:
        """Return `x`, with zeros where the mask is zero.

        Args:
            x: ``[..., batch, ..., k]``.
            by_position: Whether `x` lacks its last axis.
        """
        if self.weights is None:
            return x
        weights = self.weights[..., 0] if by_position else self.weights
        xp = self.backend.xp
        return xp.where(weights > 0, x, xp.zeros_like(x))

    def weighted(self, x: Array, *, root: bool = False) -> Array:
        """Return ``[..., batch, ..., k]`` times the weights, or their roots."""
        if self.weights is None:
            return x
        return x * (self.backend.xp.sqrt(self.weights) if root else self.weights)


def input_arrays(data: LossInputs) -> tuple[Array, ...]:
    """Return the arrays of a loss's inputs, or of a vector structured like them."""
    return data if isinstance(data, tuple) else (data,)


def shape_of(inputs: LossInputs, names: tuple[str, ...], loss: str) -> tuple[int, ...]:
    """Return the shape of a loss's inputs; if there are several, of the first.

    Args:
        inputs: An array for each name.
        names: Names of the inputs, for messages.
        loss: Name of the loss, for messages.

    Returns:
        The shape.

    Raises:
        BackendError: If an input is not an array.
        ShapeError: If there are not as many inputs as names, or one has no axis.
    """
    shape: tuple[int, ...] = ()
    for x, name in zip(checked_parts(inputs, names, loss), names, strict=True):
        own = getattr(x, "shape", None)
        if not isinstance(own, tuple):
            msg = f"{loss}: inputs: {name} is a {type(x).__name__}, expected an array"
            raise BackendError(msg)
        if not own:
            msg = f"{loss}: inputs: {name} has shape (), expected [batch, ..., n]"
            raise ShapeError(msg)
        shape = shape or tuple(own)
    return shape


def checked_parts(
    inputs: LossInputs, names: tuple[str, ...], loss: str
) -> tuple[Array, ...]:
    """Return the arrays of inputs, one for each name; see `shape_of`.

    Raises:
        ShapeError: If there are not as many inputs as names.
    """
    arrays = input_arrays(inputs)
    if len(arrays) != len(names) or isinstance(inputs, tuple) != (len(names) > 1):
        wanted = "one array" if len(names) == 1 else "a tuple of arrays"
        got = f"a tuple of {len(arrays)}" if isinstance(inputs, tuple) else "one array"
        msg = f"{loss}: inputs are {got}, expected {wanted}: {', '.join(names)}"
        raise ShapeError(msg)
    return arrays


def check_beside(
    x: Array,
    expected: tuple[int | str, ...],
    argument: str,
    names: tuple[str, ...],
    loss: str,
) -> None:
    """Check the shape of an array that is given beside inputs.

    Args:
        x: The array.
        expected: As in `kfac_core.arguments.arrays.check_shape`.
        argument: Name of the array, for the message.
        names: Names of the inputs, for messages.
        loss: Name of the loss, for messages.

    Raises:
        ShapeError: If the shape is wrong.
    """
    try:
        check_shape(x, expected, argument, loss)
    except ShapeError as error:
        got, _, _ = str(error).partition(";")
        msg = f"{got} beside the inputs ({', '.join(names)}); reshape one of them"
        raise ShapeError(msg) from None


def like_inputs(inputs: LossInputs, arrays: list[Array]) -> Any:
    """Return arrays structured as the inputs of a loss."""
    return tuple(arrays) if isinstance(inputs, tuple) else arrays[0]


def positions_of(
    inputs: LossInputs,
    mask: Array | None,
    names: tuple[str, ...],
    loss: str,
    least_axes: int,
) -> Positions:
    """Check the inputs of a loss and its mask.

    Args:
        inputs: An array for each name, ``[batch, ..., n]``, all of one shape.
        mask: Weights ``[batch, ...]``, or None.
        names: Names of the inputs, for messages.
        loss: Name of the loss, for messages.
        least_axes: Smallest number of axes of an input.

    Returns:
        The positions.

    Raises:
        ArgumentError: If a weight has a value, and that is negative, infinite or NaN.
        BackendError: If inputs and mask are of several libraries or devices.
        DTypeError: If an input does not hold real floating-point numbers.
        ShapeError: If there are not as many inputs as names, or a shape is wrong.
    """
    arrays = checked_parts(inputs, names, loss)
    backend = backend_for(
        loss, "inputs, mask", *arrays, *([] if mask is None else [mask])
    )
    xp = backend.xp
    for x, name in zip(arrays, names, strict=True):
        if len(x.shape) < least_axes or not x.shape[-1]:
            wanted = "[batch, ..., n], with n of at least one"
            msg = f"{loss}: {name} has shape {tuple(x.shape)}, expected {wanted}"
            raise ShapeError(msg)
        check_beside(x, tuple(arrays[0].shape), name, names, loss)
    dtype = xp.result_type(
        *(
            statistics_dtype(backend, x, name, loss)
            for x, name in zip(arrays, names, strict=True)
        )
    )
    cast = [xp.astype(x, dtype) for x in arrays]
    if mask is None:
        return Positions(backend, like_inputs(inputs, cast), None)
    check_beside(mask, tuple(cast[0].shape[:-1]), "mask", names, loss)
    weights = _weights(backend, mask, cast[0], loss)
    cast = [xp.where(weights > 0, x, xp.ones_like(x)) for x in cast]
    return Positions(backend, like_inputs(inputs, cast), weights)


def _weights(backend: Backend, mask: Array, like: Array, loss: str) -> Array:
    """Return a mask as weights ``[batch, ..., 1]``."""
    xp = backend.xp
    if not backend.isdtype(mask.dtype, ("bool", "integral", "real floating")):
        msg = f"{loss}: mask has dtype {mask.dtype}, expected real numbers or booleans"
        raise DTypeError(msg)
    weights = xp.astype(mask, like.dtype)
    is_weight = (weights >= 0) & (weights < math.inf)
    ok = xp.all(is_weight)
    if is_known_false(backend, ok):
        msg = (
            f"{loss}: mask has a negative weight or NaN, or an infinite one; expected"
            " finite weights >= 0"
        )
        raise ArgumentError(msg)
    if backend.is_traced(ok):
        weights = xp.where(is_weight, weights, xp.full_like(weights, math.nan))
    return backend.stop_gradient(weights)[..., None]
