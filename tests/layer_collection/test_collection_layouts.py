"""Weights in a framework's layout are registered by the shapes that they have there."""

import numpy as np
import pytest

import kfac_core as kc

PARAMS = {
    "linear": (3, 4),
    "bias": (3,),
    "table": (7, 5),
    "conv1": (4, 2, 3),
    "conv2": (4, 2, 3, 3),
    "conv3": (4, 2, 2, 2, 2),
    "grouped": (4, 2, 3, 3),
    "depthwise": (6, 1, 3, 3),
    "pointwise": (5, 6, 1, 1),
    "of_conv": (4,),
    "of_depthwise": (6,),
}
EMPTY = kc.LayerCollection.of(PARAMS)
CONV = ("site", 1, "SAME")


@pytest.mark.parametrize(
    ("register", "params", "args", "options", "wanted"),
    [
        (
            "register_fully_connected",
            ("linear", "bias"),
            ("x",),
            {"layout": "out_in"},
            kc.blocks.FullyConnectedKFACBasicFB(4, 3, True, layout="out_in"),
        ),
        (
            "register_fully_connected_multi",
            ("linear", "bias"),
            ("x",),
            {"layout": "out_in", "num_uses": 2},
            kc.blocks.FullyConnectedMultiIndepFB(
                4, 3, True, num_uses=2, layout="out_in"
            ),
        ),
        (
            "register_embedding",
            "table",
            ("x",),
            {"layout": "in_out"},
            kc.blocks.EmbeddingKFACFB(7, 5),
        ),
        (
            "register_embedding_multi",
            "table",
            ("x",),
            {"layout": "out_in", "num_uses": 2},
            kc.blocks.EmbeddingKFACMultiIndepFB(5, 7, num_uses=2, layout="out_in"),
        ),
        (
            "register_conv1d",
            ("conv1", "of_conv"),
            CONV,
            {"layout": "OIW"},
            kc.blocks.ConvKFCBasicFB(
                kc.ConvolutionGeometry((4, 2, 3), padding="SAME", layout="OIW"),
                has_bias=True,
            ),
        ),
        (
            "register_conv2d",
            ("conv2", "of_conv"),
            CONV,
            {"layout": "OIHW"},
            kc.blocks.ConvKFCBasicFB(
                kc.ConvolutionGeometry((4, 2, 3, 3), padding="SAME", layout="OIHW"),
                has_bias=True,
            ),
        ),
        (
            "register_conv2d_multi",
            "conv2",
            CONV,
            {"layout": "OIHW", "num_uses": 2},
            kc.blocks.ConvKFCBasicMultiIndepFB(
                kc.ConvolutionGeometry((4, 2, 3, 3), padding="SAME", layout="OIHW"),
                num_uses=2,
            ),
        ),
        (
            "register_convolution",
            "conv3",
            CONV,
            {"layout": "OIHW"},
            kc.blocks.ConvKFCBasicFB(
                kc.ConvolutionGeometry((4, 2, 2, 2, 2), padding="SAME", layout="OIHW")
            ),
        ),
        (
            "register_grouped_convolution",
            ("grouped", "of_conv"),
            ("x", 2, 1, "SAME"),
            {"layout": "OIHW"},
            kc.blocks.GroupedConvKFCBasicFB(
                kc.ConvolutionGeometry(
                    (4, 2, 3, 3), num_groups=2, padding="SAME", layout="OIHW"
                ),
                has_bias=True,
            ),
        ),
        (
            "register_depthwise_conv2d",
            ("depthwise", "of_depthwise"),
            CONV,
            {"layout": "OIHW", "multiplier": 2},
            kc.blocks.DepthwiseConvDiagonalFB(
                kc.ConvolutionGeometry((6, 1, 3, 3), padding="SAME", layout="OIHW"),
                has_bias=True,
                multiplier=2,
            ),
        ),
    ],
)
def test_sizes_are_read_in_the_layout(register, params, args, options, wanted):
    collection = getattr(EMPTY, register)(params, *args, **options, name="layer")
    block = collection.layers[0].block
    assert type(block) is type(wanted)
    single = hasattr(wanted, "factor")
    factors = ["factor"] if single else ["input_factor", "output_factor"]
    for name in factors:
        found, expected = getattr(block, name), getattr(wanted, name)
        assert found.cov_shape == expected.cov_shape
    assert block.weight_layout == wanted.weight_layout


def test_a_separable_convolution_has_one_layout_for_both():
    collection = EMPTY.register_separable_conv2d(
        "depthwise", "pointwise", "x", "y", 1, "SAME", layout="OIHW"
    )
    first, second = (layer.block for layer in collection.layers)
    assert first.factor.geometry.shape == (3, 3, 6, 1)
    assert second.input_factor.geometry.shape == (1, 1, 6, 5)
    wrong = kc.LayerCollection.of({"d": (6, 1, 3, 3), "p": (5, 7, 1, 1)})
    with pytest.raises(
        kc.errors.ShapeError, match=r"\('out_channels', 6, 1, 1\).*'OIHW'"
    ):
        wrong.register_separable_conv2d("d", "p", "x", "y", 1, "SAME", layout="OIHW")


def test_a_wrong_shape_is_told_the_layout():
    wanted = r"'conv2' has shape .*\[output_size, input_size\].*'out_in'"
    with pytest.raises(kc.errors.ShapeError, match=wanted):
        EMPTY.register_fully_connected("conv2", "x", layout="out_in")
    wanted = r"\[out_channels, in_channels, height, width\].*'OIHW'"
    with pytest.raises(kc.errors.ShapeError, match=wanted):
        EMPTY.register_conv2d("linear", *CONV, layout="OIHW")
    with pytest.raises(kc.errors.ShapeError, match=r"'bias' .*a bias of 4"):
        EMPTY.register_fully_connected(("linear", "bias"), "x")


@pytest.mark.parametrize("layout", ["OIHW", "oi", None, 2])
def test_an_unknown_layout_is_refused(layout):
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^linear: layout is .*in_out, out_in"
    ):
        EMPTY.register_fully_connected("linear", "x", layout=layout)


def test_towers_have_one_layout():
    once = EMPTY.register_conv2d("conv2", *CONV, layout="OIHW")
    with pytest.raises(kc.errors.RegistrationError, match=r"these differ: .*layout"):
        once.register_conv2d("conv2", "b", 1, "SAME", layout="OHWI", reuse=True)


def test_a_step_is_the_same_whatever_the_layout(rng):
    """The whole way: a network by hand, its weights as two frameworks have them."""
    x, g = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    gradient = x.T @ g
    steps = []
    for layout, own in (("in_out", gradient), ("out_in", gradient.T)):
        collection = kc.LayerCollection.of({"w": own}).register_fully_connected(
            "w", "x", layout=layout
        )
        block = collection.layers[0].block
        state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        state = block.update_inverses(state, 0.1)
        steps.append(block.multiply_inverse(state, own))
    np.testing.assert_array_equal(steps[0], steps[1].T)
    assert np.abs(steps[0] - steps[1]).max() > 0.1
