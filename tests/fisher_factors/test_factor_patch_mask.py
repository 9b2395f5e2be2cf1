"""A mask of patches: the layer whose filter is multiplied by it, entry by entry."""

import numpy as np
import pytest
from factor_truth import mean_square, windows, with_one

import kfac_core as kc

NAME = "conv3"
VALID = kc.ConvolutionGeometry((2, 2, 2, 3), padding="VALID")
MASKS = {
    "causal": np.array([[[1, 1], [1, 1]], [[1, 0], [0, 0]]]),
    "weights": np.array([[[0.5, -1.0], [2.0, 0.1]], [[3.0, 0.7], [0.0, 1.0]]]),
}


@pytest.fixture(params=MASKS)
def mask(request):
    return MASKS[request.param]


def draw(rng):
    return rng.normal(size=(5, 3, 4, 2)), rng.normal(size=(5, 2, 3, 3))


def masked_patches(x, mask):
    """Return ``[batch, locations, kernel * channels]`` of the masked filter."""
    return windows(x, (2, 2), (1, 1)) * mask.ravel()


@pytest.mark.parametrize("has_bias", [False, True])
def test_patches_are_multiplied_before_the_second_moment(mask, has_bias, rng):
    x, _ = draw(rng)
    spec = kc.factors.ConvInputKroneckerFactor(
        VALID,
        has_bias=has_bias,
        patch_mask=mask,
    )
    found = spec.get_cov(spec.update_cov(spec.init(x), x, ema_decay=0.0))
    rows = masked_patches(x, mask).reshape(-1, 8)
    expected = mean_square(with_one(rows) if has_bias else rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("has_bias", [False, True])
def test_the_diagonal_is_that_of_the_masked_layer(library, mask, has_bias, rng):
    x, g = draw(rng)
    spec = kc.factors.ConvDiagonalFactor(
        VALID,
        has_bias=has_bias,
        patch_mask=mask,
    )
    data = library.asarray(x), library.asarray(g)
    stored = spec.get_cov_var(spec.update_cov(spec.init(data[0]), *data, ema_decay=0.0))
    rows = masked_patches(x, mask)
    rows = np.concatenate([rows, np.ones((5, 6, 1))], axis=-1) if has_bias else rows
    per_case = np.einsum("blp,blo->bpo", rows, g.reshape(5, 6, 3))
    np.testing.assert_allclose(
        library.to_numpy(stored), np.mean(per_case**2, axis=0), rtol=1e-13, atol=0
    )


def test_blocks_are_those_of_the_gradient_of_the_masked_filter(mask, rng):
    # With W = mask * V, the gradient for V is mask times that for W.
    data = draw(rng)
    scale = np.append(np.repeat(mask.ravel(), 3), np.ones(3))
    for kind in (kc.blocks.ConvKFCBasicFB, kc.blocks.ConvDiagonalFB):
        fishers = []
        for options in ({}, {"patch_mask": mask.tolist()}):
            block = kind(VALID, has_bias=True, **options)
            state = block.update_covs(block.init(data[0]), *data, ema_decay=0.0)
            fishers.append(block.full_fisher_block(state))
        plain, masked = fishers
        np.testing.assert_allclose(
            masked, plain * np.outer(scale, scale), rtol=1e-13, atol=1e-14
        )
        assert np.max(np.abs(masked - plain)) > 0.01


def test_a_mask_of_any_kind_makes_one_hashable_spec(library, mask):
    specs = {
        kc.blocks.ConvKFCBasicFB(VALID, patch_mask=given)
        for given in (mask, mask.tolist(), library.asarray(mask))
    }
    assert len(specs) == 1
    assert kc.blocks.ConvKFCBasicFB(VALID) not in specs


@pytest.mark.parametrize(
    ("bad", "error", "word"),
    [
        (np.ones((2, 2, 3)), kc.errors.ShapeError, "(2, 2, 2)"),
        (np.ones(8), kc.errors.ShapeError, "(8,)"),
        (np.full((2, 2, 2), np.nan), kc.errors.ArgumentError, "finite"),
        ([[["one", "two"]] * 2] * 2, kc.errors.ArgumentError, "finite"),
        ([[[1, 1]] * 2, [[1, 1]]], kc.errors.ShapeError, "(2, 2, 2)"),
        (np.full((2, 2, 2), "one"), kc.errors.BackendError, "expected numbers"),
    ],
)
def test_a_bad_mask_is_refused(bad, error, word):
    for make in (
        lambda: kc.factors.ConvInputKroneckerFactor(
            VALID,
            patch_mask=bad,
            name=NAME,
        ),
        lambda: kc.factors.ConvDiagonalFactor(
            VALID,
            patch_mask=bad,
            name=NAME,
        ),
    ):
        with pytest.raises(error) as caught:
            make()
        assert NAME in str(caught.value)
        assert word in str(caught.value)
