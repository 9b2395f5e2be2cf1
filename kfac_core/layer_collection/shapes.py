"""Shapes of parameters, and the sizes of layers that follow from them."""

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from kfac_core.errors import ArgumentError, ShapeError

Shape = tuple[int, ...]
"""The shape of a parameter."""


def shapes_of(params: Any, argument: str = "params") -> tuple[tuple[str, Shape], ...]:
    """Return name and shape of every parameter.

    Args:
        params: Arrays, or their shapes, by name.
        argument: Name of the mapping, for the message.

    Returns:
        The pairs, in the order of the mapping.

    Raises:
        ArgumentError: If a name is not a string, or empty, or a value is neither an
            array nor a shape.
    """
    if not isinstance(params, Mapping):
        msg = f"{argument} is a {type(params).__name__}, expected a mapping from name"
        raise ArgumentError(msg)
    return tuple((name, _shape(name, value)) for name, value in params.items())


def _shape(name: object, value: Any) -> Shape:
    if not isinstance(name, str) or not name:
        msg = f"the name {name!r} of a parameter is no text; name it by a string"
        raise ArgumentError(msg)
    shape = getattr(value, "shape", value)
    sizes = shape if isinstance(shape, tuple | list) else (None,)
    if not all(map(is_length, sizes)):
        msg = (
            f"the parameter {name!r} is {_described(value)}, expected an array or a"
            " shape; flatten nested parameters into one mapping"
        )
        raise ArgumentError(msg)
    return tuple(map(int, sizes))


def is_length(value: object) -> bool:
    """Return whether `value` is an integer that is not negative."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return int(value) >= 0


def _described(value: object) -> str:
    kind = f"a {type(value).__name__}"
    return f"{kind}, {value!r}" if isinstance(value, tuple | list) else kind


def check_weight_axes(
    name: str, shape: Shape, axes: tuple[str, ...], label: str, layout: str
) -> None:
    """Check that weights have the axes that a layer of their kind has.

    Args:
        name: Name of the parameter.
        shape: Shape of the parameter.
        axes: Names of the axes that the parameter must have, in its layout.
        label: Name of the layer, for the message.
        layout: Name of the layout, for the message.

    Raises:
        ShapeError: If the rank is wrong, or a size is zero.
    """
    if len(shape) != len(axes) or 0 in shape:
        msg = (
            f"{label}: the parameter {name!r} has shape {shape}, expected"
            f" [{', '.join(axes)}], none empty, in the layout {layout!r}"
        )
        raise ShapeError(msg)


def check_bias(name: str, shape: Shape, output_size: int, label: str) -> None:
    """Check that a bias has an entry for each output.

    Raises:
        ShapeError: If the bias has another number of entries.
    """
    if math.prod(shape) != output_size:
        msg = (
            f"{label}: the parameter {name!r} has shape {shape}, expected a bias of"
            f" {output_size} entries, one for each output"
        )
        raise ShapeError(msg)
