"""What the specs of convolutions share: hashable fields, geometry, mask, sample."""

import math
from numbers import Real
from typing import Any

from kfac_core.errors import ArgumentError
from kfac_core.exponents import shown
from kfac_core.statistics.patches.extractors import geometry_for
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.mask import as_patch_mask
from kfac_core.typing import Array


def prepare(
    spec: Any, dilation: str, filter_shape: tuple[int, ...] | None = None
) -> None:
    """Make a frozen spec's fields hashable, and work out what follows from them, once.

    Args:
        spec: A spec with the fields ``filter_shape``, ``padding``, ``strides`` and
            ``data_format``, and perhaps ``extract_patches_fn`` and ``patch_mask``. Its
            ``geometry`` is set.
        dilation: Name of the spec's field for the dilation.
        filter_shape: Shape of the weights in the library's order, where the spec has
            another order.

    Raises:
        ArgumentError: If a form is unknown, or a number out of range.
        ShapeError: If a length or the mask's shape does not fit.
    """
    for name in ("filter_shape", "padding", "strides", dilation):
        value = getattr(spec, name)
        if isinstance(value, list):
            frozen = tuple(tuple(v) if isinstance(v, list) else v for v in value)
            object.__setattr__(spec, name, frozen)
    geometry = geometry_for(
        spec.filter_shape if filter_shape is None else filter_shape,
        spec.padding,
        spec.strides,
        getattr(spec, dilation),
        spec.data_format,
        getattr(spec, "extract_patches_fn", None),
        spec.label,
    )
    object.__setattr__(spec, "geometry", geometry)
    if hasattr(spec, "patch_mask"):
        mask = as_patch_mask(spec.patch_mask, spec.filter_shape, spec.label)
        object.__setattr__(spec, "patch_mask", mask)


def check_sampling(spec: Any) -> None:
    """Check the sizes of a sample.

    Raises:
        ArgumentError: If a fraction is not in (0, 1], or a number is not positive.
    """
    for name, upper in (("inputs_fraction", 1), ("max_patches_per_dimension", 2**53)):
        value = getattr(spec, name)
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0 < value <= upper:
            msg = (
                f"{spec.label}: {name} is {shown(value)}, expected a number in (0,"
                f" {upper}]"
            )
            raise ArgumentError(msg)


def sample_sizes(
    spec: Any, geometry: ConvolutionGeometry, inputs: Any
) -> tuple[int, int]:
    """Return how many cases of a tower to draw, and how many of their patches."""
    cases = inputs.shape[0]
    if spec.sub_sample_inputs:
        # In floating point 0.2 * 35 is a little more than 7.
        cases = math.ceil(round(cases * spec.inputs_fraction, 9))
    patches = cases * geometry.num_locations(inputs)
    if spec.sub_sample_patches:
        width = math.prod(spec.filter_shape[:-1])
        wanted = math.ceil(round(spec.max_patches_per_dimension * width, 9))
        patches = min(patches, spec.max_patches, wanted)
    return cases, patches


def weighted_shape(geometry: ConvolutionGeometry, inputs: Array) -> tuple[int, ...]:
    """Return the shape of what can have weights: ``(batch, ..locations..)``."""
    return (inputs.shape[0], *geometry.output_spatial(geometry.spatial_of(inputs)))
