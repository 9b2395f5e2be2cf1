"""Layouts that a block refuses, and what it says of weights in another layout."""

from dataclasses import replace

import numpy as np
import pytest

from kfac_core import ConvolutionGeometry, blocks
from kfac_core.errors import ArgumentError, ShapeError


@pytest.mark.parametrize("layout", ["oi", "OIHW", None, 3, ["in_out"], np.zeros(2)])
def test_an_unknown_layout_of_a_matrix_is_refused(layout):
    with pytest.raises(ArgumentError, match=r"^w: layout is .* in_out, out_in"):
        blocks.FullyConnectedKFACBasicFB(3, 2, name="w", layout=layout)


@pytest.mark.parametrize("layout", ["out_in", "oihw", "OIDHW", "OHIW", "OIH", None, 3])
def test_an_unknown_layout_of_a_convolution_is_refused(layout):
    with pytest.raises(ArgumentError, match=r"^w: layout is .* HWIO, OIHW"):
        ConvolutionGeometry((3, 3, 2, 4), padding="SAME", layout=layout, name="w")


def test_weights_of_another_shape_are_told_the_layout(rng):
    block = blocks.FullyConnectedKFACBasicFB(3, 2, name="w", layout="out_in")
    x, g = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.1)
    with pytest.raises(ShapeError, match=r"w: .*\(3, 2\).*\(2, 3\).*'out_in'"):
        block.multiply_inverse(state, np.ones((3, 2)))
    # As many entries in each matrix, and yet another kernel.
    block = blocks.ConvKFCBasicFB(
        ConvolutionGeometry((3, 1, 2, 4), padding="SAME"), name="w"
    )
    x, g = rng.normal(size=(4, 3, 3, 2)), rng.normal(size=(4, 3, 3, 4))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.1)
    with pytest.raises(ShapeError, match=r"w: .*\(2, 3, 1, 4\).*'HWIO'"):
        block.multiply_inverse(state, np.ones((2, 3, 1, 4)))


def test_pytorch_does_not_tell_the_multiplier_of_a_depthwise_convolution():
    make = blocks.DepthwiseConvKFCBasicFB
    laid = ConvolutionGeometry((6, 1, 3, 3), padding="SAME", layout="OIHW")
    block = make(laid, multiplier=2)
    assert block.input_factor.num_groups == 3
    assert make(laid).input_factor.num_groups == 6
    with pytest.raises(ArgumentError, match=r"multiplier is 4, expected a divisor"):
        make(laid, multiplier=4)
    with pytest.raises(ArgumentError, match=r"multiplier is 3, but .* say 2"):
        make(ConvolutionGeometry((3, 3, 3, 2), padding="SAME"), multiplier=3)
    with pytest.raises(ShapeError, match=r"inputs of size one"):
        make(replace(laid, filter_shape=(6, 2, 3, 3)))
