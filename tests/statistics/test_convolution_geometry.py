"""A convolution's geometry is one value, whatever form it is written in."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.statistics.patches.window import Window

SHAPE = (3, 3, 2, 4)
PLAIN = kc.ConvolutionGeometry(SHAPE, padding=1, strides=2, dilations=1)


@pytest.mark.parametrize(
    "forms",
    [
        {"padding": (1, 1), "strides": (2, 2)},
        {"padding": [[1, 1], 1], "strides": [2, 2], "dilations": [1, 1]},
        {"padding": np.int64(1), "strides": np.int32(2), "name": "conv7"},
    ],
)
def test_equal_geometries_are_equal_and_hash_alike(forms):
    geometry = kc.ConvolutionGeometry(list(SHAPE), **forms)
    assert geometry == PLAIN
    assert hash(geometry) == hash(PLAIN)
    assert geometry.window == Window((3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)))


@pytest.mark.parametrize(
    ("layout", "lies"), [("OIHW", (4, 2, 3, 3)), ("HWOI", (3, 3, 4, 2))]
)
def test_the_shape_of_the_weights_follows_from_their_layout(layout, lies):
    geometry = kc.ConvolutionGeometry(lies, padding="SAME", layout=layout)
    assert geometry.shape == SHAPE
    assert geometry.weights.shape == lies


@pytest.mark.parametrize(
    "other",
    [
        {"data_format": "NCHW"},
        {"layout": "OIHW", "filter_shape": (4, 2, 3, 3)},
    ],
)
def test_where_axes_lie_changes_no_statistics(other):
    """A state of one factor is a state of the other."""
    given = {"filter_shape": SHAPE, "padding": "SAME"}
    one, two = (
        kc.factors.ConvInputKroneckerFactor(kc.ConvolutionGeometry(**fields))
        for fields in (given, given | other)
    )
    assert type(one.signature) is type(two.signature)


@pytest.mark.parametrize(
    "other", [{"padding": "VALID"}, {"strides": 2}, {"dilations": (2, 1)}]
)
def test_where_a_kernel_looks_changes_them(other):
    given = {"filter_shape": SHAPE, "padding": "SAME"}
    one, two = (
        kc.factors.ConvInputKroneckerFactor(kc.ConvolutionGeometry(**fields))
        for fields in (given, given | other)
    )
    assert type(one.signature) is not type(two.signature)
