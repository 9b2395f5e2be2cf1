"""KFC with spatially uncorrelated pixels, against the dense block."""

import numpy as np
import pytest
from block_case import NumPy, damped, flat, moment

import kfac_core as kc
from kfac_core.contrib import fisher_blocks

SHAPE = (2, 2, 3, 2)
GEOMETRY = kc.ConvolutionGeometry(
    SHAPE, padding="VALID", strides=(2, 1), dilations=(1, 2)
)
LOCATIONS = 2 * 3  # of 5x5 images; without strides and dilation, there were 4 * 4


def block_of(**options):
    return kc.blocks.ConvKFCBasicFB(
        GEOMETRY,
        has_bias=True,
        use_sua_approx_for_input_factor=True,
        name="conv3",
        **options,
    )


def draw(rng):
    return rng.normal(size=(4, 5, 5, 3)) + 0.5, rng.normal(size=(4, 2, 3, 2))


def fisher_of(x, g):
    """Return ``(A, G, P)``, ``A`` in the order of the parameters' matrix."""
    rows = x.reshape(-1, 3)
    mean = np.append(np.tile(rows.mean(0), 4), 1.0)
    a = np.zeros((13, 13))
    a[:12, :12] = np.kron(np.eye(4), np.cov(rows.T, bias=True))
    return a + np.outer(mean, mean), moment(g), LOCATIONS


@pytest.mark.parametrize("damping_type", ["pi", "off", "constant"])
def test_products_are_those_of_the_dense_block(damping_type, rng):
    data = draw(rng)
    block = block_of(damping_type=damping_type, matpowers=(-1, -0.5))
    state = block.update_covs(block.init(data[0]), *data, ema_decay=0.0)
    state = block.update_inverses(state, 0.3)
    a, g, c = fisher = fisher_of(*data)
    np.testing.assert_allclose(
        block.full_fisher_block(state),
        c * np.kron(a, g),
        rtol=0,
        atol=1e-12,
    )
    dense = damped(fisher, 0.3, damping_type)
    vector = rng.normal(size=SHAPE), rng.normal(size=2)
    v = np.concatenate([part.ravel() for part in vector])
    values, vectors = np.linalg.eigh(dense)
    for exp in (1, -1, -0.5):
        expected = (vectors * values**exp) @ (vectors.T @ v)
        found = flat(NumPy, block.multiply_matpower(state, vector, exp))
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert error <= 1e-12


def test_it_is_not_the_block_of_patches(rng):
    data = draw(rng)
    plain = kc.blocks.ConvKFCBasicFB(GEOMETRY, has_bias=True)
    fishers = [
        block.full_fisher_block(block.update_covs(block.init(data[0]), *data, 0.0))
        for block in (plain, block_of(), block_of(pixel_weights="usage"))
    ]
    assert np.max(np.abs(fishers[1] - fishers[0])) > 0.1
    # Weighted by usage, at least the trace is that of the patches.
    traces = list(map(np.trace, fishers))
    assert abs(traces[1] - traces[0]) > 0.01 * traces[0]
    np.testing.assert_allclose(traces[2], traces[0], rtol=1e-13)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"patch_mask": np.ones(SHAPE[:-1])}, "patch_mask"),
        ({"sub_sample_inputs": True}, "sub_sample"),
        ({"sub_sample_patches": True}, "sub_sample"),
        ({"cholesky": True}, "1/2"),
        ({"cholesky_inverse": True}, "1/2"),
        ({"damping_type": "exact"}, "exact"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(options, word):
    with pytest.raises(kc.errors.ArgumentError, match="conv3") as caught:
        block_of(**options)
    assert word in str(caught.value)


def test_contrib_is_the_same(rng):
    x, g = draw(rng)
    vector = rng.normal(size=SHAPE), rng.normal(size=2)
    block = block_of()
    state = block.update_inverses(block.update_covs(block.init(x), x, g, 0.0), 0.3)
    held = fisher_blocks.ConvKFCBasicFB(
        None, vector, "VALID", (2, 1), (1, 2), use_sua_approx_for_input_factor=True
    )
    held.register_additional_tower(x, g)
    held.instantiate_factors([[g]], 0.3)
    held.make_covariance_update_op(0.0)()
    held.instantiate_inv_variables()
    for op in held.make_inverse_update_ops():
        op()
    np.testing.assert_array_equal(
        flat(NumPy, held.multiply_inverse(vector)),
        flat(NumPy, block.multiply_inverse(state, vector)),
    )
