"""What the specs of convolutions share: geometry, mask, sample."""

import math
from numbers import Real
from typing import Any

from kfac_core.arguments.powers import shown
from kfac_core.errors import ArgumentError
from kfac_core.statistics.patches.geometry import check_geometry
from kfac_core.statistics.patches.mask import as_patch_mask
from kfac_core.statistics.patches.window import Window
from kfac_core.typing import Array


def prepare(spec: Any, *, grouped: bool = False) -> None:
    """Check a frozen spec's geometry, and make its mask hashable.

    Args:
        spec: A spec with a ``geometry``, and perhaps a ``patch_mask``, before it is
            signed.
        grouped: Whether its geometry may have groups.

    Raises:
        ArgumentError: If the geometry is none, or the mask does not hold numbers.
        ShapeError: If the mask's shape is not that of a patch.
    """
    check_geometry(spec, grouped=grouped)
    if hasattr(spec, "patch_mask"):
        mask = as_patch_mask(spec.patch_mask, spec.geometry.shape, spec.label)
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


def sample_sizes(spec: Any, inputs: Any) -> tuple[int, int]:
    """Return how many cases of a tower to draw, and how many of their patches."""
    cases = inputs.shape[0]
    if spec.sub_sample_inputs:
        # In floating point 0.2 * 35 is a little more than 7.
        cases = math.ceil(round(cases * spec.inputs_fraction, 9))
    patches = cases * spec.geometry.window.num_locations(inputs)
    if spec.sub_sample_patches:
        width = math.prod(spec.geometry.shape[:-1])
        wanted = math.ceil(round(spec.max_patches_per_dimension * width, 9))
        patches = min(patches, spec.max_patches, wanted)
    return cases, patches


def weighted_shape(window: Window, inputs: Array) -> tuple[int, ...]:
    """Return the shape of what can have weights: ``(batch, ..locations..)``."""
    return (inputs.shape[0], *window.output_spatial(window.spatial_of(inputs)))
