"""What cannot be an argument of a convolution's geometry is refused by its name."""

import pytest
from bad_values import choice, size
from registration_faults import padding, steps
from walk import Call

import kfac_core as kc
from kfac_core.errors import ArgumentError

RIGHT = {
    "filter_shape": (3, 3, 2, 4),
    "padding": "SAME",
    "strides": (2, 1),
    "dilations": 1,
    "num_groups": 1,
    "data_format": "NHWC",
    "layout": "HWIO",
}


def test_geometries(walked):
    faults = {
        "filter_shape": size(),
        "padding": padding(),
        "strides": steps(),
        "dilations": steps(),
        "num_groups": size(),
        "data_format": choice("NWHC", "nhwc", "NC", "NCW"),
        "layout": choice("oihw", "IO", "in_in"),
    }
    walked(
        Call(
            "ConvolutionGeometry",
            lambda **given: kc.ConvolutionGeometry(name="conv7", **given),
            RIGHT,
            faults,
            {"data_format": ("None",), "padding": ("zero",)},
            label="conv7",
        )
    )


SPECS = {
    "factor": kc.factors.ConvInputKroneckerFactor,
    "uncorrelated": kc.factors.ConvInputSUAKroneckerFactor,
    "diagonal factor": kc.factors.ConvDiagonalFactor,
    "block": kc.blocks.ConvKFCBasicFB,
    "diagonal": kc.blocks.ConvDiagonalFB,
    "depthwise": kc.blocks.DepthwiseConvKFCBasicFB,
}


@pytest.mark.parametrize("kind", SPECS.values(), ids=SPECS)
def test_a_spec_of_one_group_takes_no_groups(kind):
    geometry = kc.ConvolutionGeometry((3, 3, 1, 4), padding="SAME", num_groups=2)
    with pytest.raises(ArgumentError, match=r"conv7: geometry has 2 groups"):
        kind(geometry, name="conv7")


@pytest.mark.parametrize("name", sorted(SPECS.keys() - {"uncorrelated"}))
def test_a_shape_alone_says_what_to_write(name):
    kind = SPECS[name]
    with pytest.raises(ArgumentError, match=r"geometry is .*ConvolutionGeometry\("):
        kind((3, 3, 1, 4))
