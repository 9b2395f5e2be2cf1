"""Calls of convolutions from before the geometry make the same specs, and say so."""

from functools import partial

import pytest

import kfac_core as kc
from kfac_core import ConvolutionGeometry as Geometry
from kfac_core import blocks, factors

SAME = partial(Geometry, padding="SAME")
CALLS = {
    "kronecker": (
        lambda: blocks.ConvKFCBasicFB((3, 3, 2, 4), "VALID", 2, has_bias=True),
        lambda: blocks.ConvKFCBasicFB(
            Geometry((3, 3, 2, 4), padding="VALID", strides=2), has_bias=True
        ),
    ),
    "full rank, channels first": (
        lambda: blocks.ConvKFCBasicFB(
            (4, 2, 3, 3),
            padding=1,
            strides=(1, 1, 2, 1),
            dilation_rate=(1, 1, 1, 2),
            data_format="NCHW",
            layout="OIHW",
            name="conv",
        ),
        lambda: blocks.ConvKFCBasicFB(
            Geometry(
                (4, 2, 3, 3),
                padding=1,
                strides=(2, 1),
                dilations=(1, 2),
                data_format="NCHW",
                layout="OIHW",
            ),
            name="conv",
        ),
    ),
    "shared": (
        lambda: blocks.ConvKFCBasicMultiIndepFB((3, 3, 2, 4), "SAME", num_uses=2),
        lambda: blocks.ConvKFCBasicMultiIndepFB(SAME((3, 3, 2, 4)), num_uses=2),
    ),
    "diagonal": (
        lambda: blocks.ConvDiagonalFB((3, 3, 2, 4), None, "SAME", "NCHW", 2, True),
        lambda: blocks.ConvDiagonalFB(
            SAME((3, 3, 2, 4), dilations=2, data_format="NCHW"), True
        ),
    ),
    "depthwise": (
        lambda: blocks.DepthwiseConvKFCBasicFB((3, 3, 2, 2), (1, 2, 2, 1), "SAME"),
        lambda: blocks.DepthwiseConvKFCBasicFB(SAME((3, 3, 2, 2), strides=2)),
    ),
    "depthwise diagonal": (
        lambda: blocks.DepthwiseConvDiagonalFB((3, 3, 2, 2), 1, "SAME", rate=2),
        lambda: blocks.DepthwiseConvDiagonalFB(SAME((3, 3, 2, 2), dilations=2)),
    ),
    "grouped": (
        lambda: blocks.GroupedConvKFCBasicFB((3, 3, 2, 4), 2, "SAME", has_bias=True),
        lambda: blocks.GroupedConvKFCBasicFB(
            SAME((3, 3, 2, 4), num_groups=2), has_bias=True
        ),
    ),
    "transposed": (
        lambda: blocks.TransposedConvKFCBasicFB(
            (3, 3, 4, 1), 1, 2, 1, num_groups=2, has_bias=True
        ),
        lambda: blocks.TransposedConvKFCBasicFB(
            Geometry((3, 3, 4, 1), padding=1, strides=2, num_groups=2),
            output_padding=1,
            has_bias=True,
        ),
    ),
    "factor": (
        lambda: factors.ConvInputKroneckerFactor((3, 3, 2, 4), padding="SAME"),
        lambda: factors.ConvInputKroneckerFactor(SAME((3, 3, 2, 4))),
    ),
    "factor of uncorrelated pixels": (
        lambda: factors.ConvInputSUAKroneckerFactor((3, 3, 2, 4), True),
        lambda: factors.ConvInputSUAKroneckerFactor(SAME((3, 3, 2, 4)), True),
    ),
    "factor of a diagonal": (
        lambda: factors.ConvDiagonalFactor((3, 3, 2, 4), (2, 2), "SAME"),
        lambda: factors.ConvDiagonalFactor(SAME((3, 3, 2, 4), strides=2)),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_older_call_makes_the_same_spec_with_a_warning(name):
    older, now = CALLS[name]
    with pytest.warns(DeprecationWarning, match="ConvolutionGeometry in place of"):
        spec = older()
    assert spec == now()
    assert spec.label == now().label


def test_the_geometry_itself_warns_of_nothing():
    spec = CALLS["kronecker"][1]()  # warnings are errors
    assert spec.geometry.strides == (2, 2)


def test_what_was_never_a_call_is_refused_as_before():
    with pytest.raises(kc.errors.ArgumentError, match="expected a ConvolutionGeometry"):
        blocks.ConvKFCBasicFB("SAME")
    with pytest.raises(kc.errors.ArgumentError, match="padding"):
        blocks.ConvKFCBasicFB((3, 3, 2, 4), "same way")
    with pytest.raises(kc.errors.ArgumentError, match="contrib"):
        blocks.ConvKFCBasicFB(
            (3, 3, 2, 4), "SAME", extract_patches_fn="extract_image_patches"
        )
    with pytest.raises(kc.errors.ShapeError, match="strides"):
        blocks.ConvKFCBasicFB((3, 3, 2, 4), "SAME", (2, 1, 1, 1))


def empty(**shapes):
    return kc.LayerCollection.of(shapes)


FLAT, DEEP = {"w": (3, 3, 2, 4)}, {"w": (3, 3, 3, 2, 4)}
REGISTRATIONS = {
    "full rank, a rate": (
        lambda: empty(w=(3, 3, 2, 2)).register_depthwise_conv2d(
            "w", "s", (1, 2, 2, 1), "SAME", rate=(1, 1)
        ),
        lambda: empty(w=(3, 3, 2, 2)).register_depthwise_conv2d("w", "s", 2, "SAME"),
    ),
    "no strides": (
        lambda: empty(**FLAT).register_conv2d("w", "s", None, "SAME", dilations=None),
        lambda: empty(**FLAT).register_conv2d("w", "s", 1, "SAME"),
    ),
    "padding first": (
        lambda: empty(**DEEP).register_convolution(
            "w", "s", 1, strides=2, dilation_rate=(1, 2, 1)
        ),
        lambda: empty(**DEEP).register_convolution("w", "s", 2, 1, dilations=(1, 2, 1)),
    ),
    "padding alone": (
        lambda: empty(**DEEP).register_convolution("w", "s", padding="VALID"),
        lambda: empty(**DEEP).register_convolution("w", "s", 1, "VALID"),
    ),
    "groups": (
        lambda: empty(**FLAT).register_grouped_convolution("w", "s", 2, "SAME"),
        lambda: empty(**FLAT).register_grouped_convolution("w", "s", 2, 1, "SAME"),
    ),
    "transposed": (
        lambda: empty(**FLAT).register_transposed_convolution("w", "s", 1, strides=2),
        lambda: empty(**FLAT).register_transposed_convolution("w", "s", 2, 1),
    ),
}


@pytest.mark.parametrize("name", REGISTRATIONS)
def test_an_older_registration_is_the_same_with_a_warning(name):
    older, now = REGISTRATIONS[name]
    with pytest.warns(DeprecationWarning, match="strides before padding"):
        collection = older()
    assert collection == now()  # which warns of nothing
