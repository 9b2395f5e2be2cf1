"""Names of patch extractors in ``tf.contrib.kfac``, and the forms that they imply.

| name | spatial axes | strides and dilation |
|---|---|---|
| None, ``"extract_convolution_patches"`` | 1 to 3 | spatial, or of full rank |
| ``"extract_image_patches"`` | 2 | of full rank, ``[1, s, s, 1]`` |
| ``"extract_pointwise_conv2d_patches"`` | 2, all 1 | none, or all ones |
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from kfac_core.arguments.powers import shown
from kfac_core.arguments.sizes import as_shape
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.statistics.patches.geometry import (
    ConvolutionGeometry,
    Padding,
    Steps,
    is_channels_last,
)

PATCH_FUNCTIONS = (
    "extract_convolution_patches",
    "extract_image_patches",
    "extract_pointwise_conv2d_patches",
)


def geometry_for(
    filter_shape: Sequence[int],
    padding: Padding,
    strides: Sequence[int] | int | None,
    dilation: Sequence[int] | int | None,
    data_format: str | None,
    extract_patches_fn: str | None,
    layer: str,
    num_groups: int = 1,
) -> ConvolutionGeometry:
    """Return the geometry that the arguments of ``tf.contrib.kfac`` describe.

    Args:
        filter_shape: ``[..kernel.., in_channels, out_channels]``.
        padding: As in `ConvolutionGeometry`.
        strides: In the form that `extract_patches_fn` implies.
        dilation: In the form that `extract_patches_fn` implies.
        data_format: As in `ConvolutionGeometry`.
        extract_patches_fn: One of `PATCH_FUNCTIONS`, or None for the first.
        layer: Name of the layer, for the messages.
        num_groups: As in `ConvolutionGeometry`.

    Returns:
        The geometry.

    Raises:
        ArgumentError: If a name or form is unknown.
        ShapeError: If a length does not fit.
    """
    shape = as_shape(filter_shape, "filter_shape", layer)
    rank = len(shape) - 2
    made: dict[str, Any] = {"num_groups": num_groups, "name": layer}
    extractor: object = extract_patches_fn
    known = isinstance(extractor, str) and extractor in PATCH_FUNCTIONS
    if extractor is not None and not known:
        msg = (
            f"{layer}: extract_patches_fn is {shown(extract_patches_fn)}, expected None"
            f" or one of {', '.join(PATCH_FUNCTIONS)}"
        )
        raise ArgumentError(msg)
    if extract_patches_fn == "extract_pointwise_conv2d_patches":
        given: Any = strides if isinstance(strides, Sequence) else (strides,)
        ones = given and all(isinstance(s, Integral) and s == 1 for s in given)
        if shape[:-2] != (1, 1) or not (ones or strides is None):
            msg = (
                f"{layer}: pointwise patches have kernel {shape[:-2]} and strides"
                f" {strides}, expected (1, 1) and none or ones"
            )
            raise ArgumentError(msg)
        # A kernel of one tap needs neither padding nor dilation.
        return ConvolutionGeometry(
            shape, padding="VALID", data_format=data_format, **made
        )
    if extract_patches_fn == "extract_image_patches":
        if rank != 2:
            msg = f"{layer}: image patches have kernel {shape[:-2]}, expected two axes"
            raise ShapeError(msg)
        for argument, values in (("strides", strides), ("dilation", dilation)):
            full = isinstance(values, Sequence) and len(values) == 4
            if not full and not (values is None and argument == "dilation"):
                msg = (
                    f"{layer}: {argument} of image patches is {values}, expected four"
                    " numbers [1, rows, columns, 1]"
                )
                raise ShapeError(msg)
    return ConvolutionGeometry(
        shape,
        padding=padding,
        strides=_spatial(strides, rank, data_format, "strides", layer),
        dilations=_spatial(dilation, rank, data_format, "dilation", layer),
        data_format=data_format,
        **made,
    )


def _spatial(
    values: Sequence[int] | int | None,
    rank: int,
    data_format: str | None,
    argument: str,
    layer: str,
) -> Steps:
    """Drop the entries for batch and channels from a list of full rank."""
    if values is None:
        return 1
    if not isinstance(values, Sequence) or len(values) != rank + 2:
        return values
    first = 1 if is_channels_last(data_format, rank, layer) else 2
    values = as_shape(values, argument, layer)
    spatial = values[first : first + rank]
    if sum(values) - sum(spatial) != 2:
        msg = (
            f"{layer}: {argument} is {tuple(values)}, expected ones for the batch and"
            f" the channels, in the data format {data_format or 'with channels last'}"
        )
        raise ArgumentError(msg)
    return spatial
