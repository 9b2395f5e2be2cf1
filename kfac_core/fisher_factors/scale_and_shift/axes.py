"""The axes of the outputs along which a scale and a shift are broadcast."""

from typing import Any

from kfac_core.arguments.powers import shown
from kfac_core.arguments.sizes import as_free_shape, as_shape
from kfac_core.errors import ArgumentError
from kfac_core.statistics.scale_and_shift import FreeShape, Shape, broadcast_dims


def fields_for_params(
    layer: str,
    scale_shape: Shape,
    input_shape: FreeShape,
    output_shape: FreeShape | None,
    shift_shape: Shape | None,
) -> dict[str, Any]:
    """Return the fields of a spec for parameters of these shapes."""
    inputs = as_free_shape(input_shape, "input_shape", layer)
    outputs = inputs
    if output_shape is not None:
        outputs = as_free_shape(output_shape, "output_shape", layer)
    dims_shift = None
    if shift_shape is not None:
        shift = as_shape(shift_shape, "the shape of the shift", layer)
        dims_shift = broadcast_dims(shift, outputs, "shift", layer)
    scale = as_shape(scale_shape, "the shape of the scale", layer)
    return {
        "input_shape": inputs,
        "broadcast_dims_scale": broadcast_dims(scale, outputs, "scale", layer),
        "broadcast_dims_shift": dims_shift,
        "has_shift": shift_shape is not None,
        "output_shape": outputs,
    }


def checked_dims(
    dims: Any, outputs: FreeShape, name: str, label: str
) -> tuple[int, ...]:
    """Return axes of the outputs, ascending; axes of any size must be among them."""
    known = range(1, len(outputs) + 1)
    # This is not a shape, but it is a list of positive integers as well.
    try:
        axes = as_shape(dims, name, label)
    except ArgumentError:
        axes = (0,)
    if len({*axes} & {*known}) != len(axes):
        msg = (
            f"{label}: {name} is {shown(dims)}, expected different axes of {[*known]},"
            " that is of the outputs without the batch"
        )
        raise ArgumentError(msg)
    free = [axis for axis in known if outputs[axis - 1] is None and axis not in axes]
    if free:
        msg = (
            f"{label}: the axes {free} of outputs of shape {outputs} may have any size,"
            f" but are not in {name}, {axes}: a parameter is broadcast along such an"
            " axis; give its size, or the axis there"
        )
        raise ArgumentError(msg)
    return tuple(sorted(axes))


def named(shape: FreeShape) -> tuple[int | str, ...]:
    """Return a shape for `check_shape`."""
    return tuple("any size" if size is None else size for size in shape)
