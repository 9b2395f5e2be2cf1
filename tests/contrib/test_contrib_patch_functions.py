"""The original's names of patch extractors say the forms of strides and dilation."""

from dataclasses import replace

import numpy as np
import pytest

from kfac_core import KfacError
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_factors import ConvInputKroneckerFactor
from kfac_core.statistics.patches.geometry import ConvolutionGeometry

CONVOLUTION, IMAGE = "extract_convolution_patches", "extract_image_patches"
POINTWISE = "extract_pointwise_conv2d_patches"
STEPS = {"strides": (2, 1), "dilations": (1, 2)}
PLAIN = ConvolutionGeometry((3, 3, 2, 4), padding="SAME", **STEPS)


@pytest.mark.parametrize("name", [None, CONVOLUTION])
@pytest.mark.parametrize(
    ("strides", "dilation"),
    [
        ((2, 1), (1, 2)),
        ([2, 1], [1, 2]),
        ((1, 2, 1, 1), (1, 2)),
        ((1, 2, 1, 1), (1, 1, 2, 1)),
    ],
)
def test_convolution_patches_take_spatial_or_full_forms(name, strides, dilation):
    shape = (3, 3, 2, 4)
    found = geometry_for(shape, "SAME", strides, dilation, None, name, "layer")
    assert found == PLAIN


def test_full_forms_follow_the_data_format():
    found = geometry_for(
        (3, 3, 2, 4), "SAME", (1, 1, 2, 1), (1, 1, 1, 2), "NCHW", None, "layer"
    )
    assert found == replace(PLAIN, data_format="NCHW")


@pytest.mark.parametrize(("dilation", "taps"), [(None, (1, 1)), ((1, 3, 2, 1), (3, 2))])
def test_image_patches_take_full_forms(dilation, taps):
    found = geometry_for(
        (3, 3, 2, 4), "VALID", (1, 2, 1, 1), dilation, None, IMAGE, "layer"
    )
    assert found == replace(PLAIN, padding="VALID", dilations=taps)


@pytest.mark.parametrize("strides", [None, 1, (1, 1), (1, 1, 1, 1)])
def test_pointwise_patches_ignore_padding_and_dilation(strides):
    found = geometry_for((1, 1, 2, 4), "SAME", strides, (3, 3), None, POINTWISE, "l")
    assert found == ConvolutionGeometry((1, 1, 2, 4), padding="VALID")


@pytest.mark.parametrize("name", [None, CONVOLUTION, IMAGE, POINTWISE])
def test_all_names_agree_on_a_pointwise_convolution(name, rng):
    images = rng.normal(size=(2, 3, 3, 4))
    strides = (1, 1, 1, 1)
    geometry = geometry_for((1, 1, 4, 2), "SAME", strides, None, None, name, "layer")
    spec = ConvInputKroneckerFactor(geometry, has_bias=True)
    state = spec.update_cov(spec.init(images), images, ema_decay=0.5)
    rows = np.hstack([images.reshape(-1, 4), np.ones((18, 1))])
    np.testing.assert_allclose(spec.get_cov(state), rows.T @ rows / 18, rtol=1e-13)


SHAPE = (3, 3, 2, 4)
BAD = [
    # filter shape, padding, strides, dilation, data format, name; error; message
    ((SHAPE, "SAME", None, None, None, "im2col"), ArgumentError, "'im2col'"),
    ((SHAPE, "FULL", None, None, None, None), ArgumentError, "'FULL'"),
    ((SHAPE, -1, None, None, None, None), ArgumentError, "none negative"),
    ((SHAPE, (1,), None, None, None, None), ArgumentError, "2 widths"),
    ((SHAPE, ((1, 2, 3), 1), None, None, None, None), ArgumentError, "padding"),
    ((SHAPE, None, None, None, None, None), ArgumentError, "padding is None"),
    ((SHAPE, "SAME", None, None, "NHC", None), ArgumentError, "'NHC'"),
    ((SHAPE, "SAME", None, None, "NWC", None), ArgumentError, "'NHWC' or 'NCHW'"),
    ((SHAPE, "SAME", (2,), None, None, None), ShapeError, "strides"),
    ((SHAPE, "SAME", (1, 2, 1), None, None, None), ShapeError, "strides"),
    ((SHAPE, "SAME", None, (1, 2, 3), None, None), ShapeError, "dilation"),
    ((SHAPE, "SAME", (0, 1), None, None, None), ArgumentError, "strides"),
    ((SHAPE, "SAME", (1.5, 1), None, None, None), KfacError, "strides"),
    ((SHAPE, "SAME", None, (1, -1), None, None), ArgumentError, "dilation"),
    ((SHAPE, "SAME", (2, 1, 1, 1), None, None, None), ArgumentError, "strides"),
    ((SHAPE, "SAME", (1, 2, 1, 1), None, "NCHW", None), ArgumentError, "strides"),
    ((SHAPE, "SAME", (2, 2), None, None, IMAGE), ShapeError, "four numbers"),
    ((SHAPE, "SAME", None, None, None, IMAGE), ShapeError, "four numbers"),
    ((SHAPE, "SAME", (1, 2, 2, 1), (2, 2), None, IMAGE), ShapeError, "dilation"),
    (((3, 2, 4), "SAME", (1, 2, 2, 1), None, None, IMAGE), ShapeError, "two axes"),
    ((SHAPE, "SAME", None, None, None, POINTWISE), ArgumentError, "(1, 1)"),
    (((1, 1, 2, 4), "SAME", (2, 1), None, None, POINTWISE), ArgumentError, "strides"),
    (((1,) * 6, "SAME", None, None, None, None), ShapeError, "expected 1 to 3"),
    (((2, 4), "SAME", None, None, None, None), ShapeError, "expected 1 to 3"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "message"), BAD, ids=[repr(b[0]) for b in BAD]
)
def test_what_is_no_convolution_is_refused_by_name(arguments, error, message):
    with pytest.raises(error) as caught:
        geometry_for(*arguments, "conv7")
    assert isinstance(caught.value, KfacError)
    assert isinstance(caught.value, ValueError)
    assert message in str(caught.value)
    assert str(caught.value).startswith("conv7: ")
