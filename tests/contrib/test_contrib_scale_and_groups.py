"""Scale-and-shift, depthwise and grouped layers in the original's convention."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.contrib import fisher_blocks, fisher_factors

RNG = np.random.default_rng(0)
DAMPING = 0.3
X, G = RNG.normal(size=(4, 3, 3, 2)), RNG.normal(size=(4, 2, 2, 4))
NORM = RNG.normal(size=(4, 2, 2, 4))
WEIGHTS, GROUPED = RNG.normal(size=(2, 2, 2, 2)), RNG.normal(size=(2, 2, 1, 4))
BIAS = RNG.normal(size=4)
ONES = (1, 1, 1, 1)
DEPTHWISE = kc.ConvolutionGeometry((2, 2, 2, 2), padding="VALID")
IN_GROUPS = kc.ConvolutionGeometry((2, 2, 1, 4), padding="VALID", num_groups=2)

# Holder, spec, data, and a vector.
BLOCKS = {
    "scale-and-shift-full": (
        lambda: fisher_blocks.ScaleAndShiftFullFB(None, [1, 2], [1]),
        kc.blocks.ScaleAndShiftFullFB((2, 2, 4), (1, 2), (1,)),
        (NORM, G),
        (np.ones(4), np.arange(8.0).reshape(2, 4)),
    ),
    "scale-and-shift-diagonal": (
        lambda: fisher_blocks.ScaleAndShiftDiagonalFB(None, [], has_shift=False),
        kc.blocks.ScaleAndShiftDiagonalFB(
            (2, 2, 1), (), has_shift=False, output_shape=(2, 2, 4)
        ),
        (NORM[..., :1], G),
        np.arange(16.0).reshape(2, 2, 4),
    ),
    "depthwise-diagonal": (
        lambda: fisher_blocks.DepthwiseConvDiagonalFB(None, WEIGHTS, ONES, "VALID"),
        kc.blocks.DepthwiseConvDiagonalFB(DEPTHWISE),
        (X, G),
        WEIGHTS,
    ),
    "depthwise": (
        lambda: fisher_blocks.DepthwiseConvKFCBasicFB(
            None, (WEIGHTS, BIAS), ONES, "VALID", [1, 1]
        ),
        kc.blocks.DepthwiseConvKFCBasicFB(DEPTHWISE, has_bias=True),
        (X, G),
        (WEIGHTS, BIAS),
    ),
    "grouped": (
        lambda: fisher_blocks.GroupedConvKFCBasicFB(None, (GROUPED, BIAS), 2, "VALID"),
        kc.blocks.GroupedConvKFCBasicFB(IN_GROUPS, has_bias=True),
        (X, G),
        (GROUPED, BIAS),
    ),
}


def flat(params):
    tensors = params if isinstance(params, tuple) else (params,)
    return np.concatenate([np.ravel(part) for part in tensors])


@pytest.mark.parametrize("name", BLOCKS)
def test_both_faces_give_the_same_numbers(name):
    make, spec, (x, g), vector = BLOCKS[name]
    block = make()
    block.register_additional_tower(inputs=x, outputs=np.zeros_like(g))
    block.instantiate_factors([[g]], DAMPING)
    block.register_cholesky()
    block.instantiate_cov_variables()
    block.instantiate_inv_variables()
    block.make_covariance_update_op(0.95)()
    for op in block.make_inverse_update_ops():
        op()
    spec = spec.register_cholesky()
    state = spec.update_covs(spec.init(like=g), x, g, ema_decay=0.95)
    state = spec.update_inverses(state, DAMPING)
    for verb in ("multiply", "multiply_inverse", "multiply_cholesky"):
        here = flat(getattr(block, verb)(vector))
        np.testing.assert_array_equal(here, flat(getattr(spec, verb)(state, vector)))
    np.testing.assert_array_equal(
        block.full_fisher_block(), spec.full_fisher_block(state)
    )


@pytest.mark.parametrize("kind", ["Full", "Diagonal"])
def test_factors_of_scale_and_shift(kind):
    name = f"ScaleAndShift{kind}Factor"
    factor = getattr(fisher_factors, name)([NORM], [[G]], [1, 2], [1])
    factor.instantiate_cov_variables()
    stored = factor.make_covariance_update_op(0.95)()
    spec = getattr(kc.factors, name)((2, 2, 4), (1, 2), (1,))
    state = spec.update_cov(spec.init(G), NORM, G, 0.95)
    np.testing.assert_array_equal(stored, spec.get_cov_var(state))


@pytest.mark.parametrize("kind", ["Diagonal", "KFCBasic"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((WEIGHTS[0], ONES, "SAME"), "filter's shape"),
        ((WEIGHTS, (1, 1), "SAME"), "strides"),
        ((WEIGHTS, ONES, "SAME", ONES), "rate"),
    ],
)
def test_lengths_are_those_of_the_original(kind, arguments, words):
    name = f"DepthwiseConv{kind}FB"
    with pytest.raises(kc.errors.ShapeError, match=f"{name}.*{words}"):
        getattr(fisher_blocks, name)(None, *arguments)


def test_a_shift_needs_its_axes():
    block = fisher_blocks.ScaleAndShiftFullFB(None, [1, 2])
    block.register_additional_tower(NORM, G)
    with pytest.raises(kc.errors.ArgumentError, match="broadcast_dims_shift"):
        block.instantiate_factors([[G]], DAMPING)
