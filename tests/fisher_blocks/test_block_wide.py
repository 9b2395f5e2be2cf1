"""Blocks of sides too wide for their matrices: rows, or blocks, in their place."""

import numpy as np
import pytest

import kfac_core as kc

NAME = "wide7"


def block_of(**options):
    return kc.blocks.FullyConnectedKFACBasicFB(6, 4, True, name=NAME, **options)


def data(rng, n=5):
    return rng.normal(size=(n, 6)), rng.normal(size=(n, 4))


def folded(block, *batches):
    state = block.init(np.zeros(1))
    for x, g in batches:
        state = block.update_covs(state, x, g, 0.5)
    return state


def test_rows_are_the_whole_until_one_is_dropped(rng):
    whole, kept = block_of(), block_of(input_max_rows=5, output_max_rows=7)
    batches, vector = (data(rng), data(rng)), (rng.normal(size=(6, 4)), np.ones(4))

    def stepped(block):
        state = block.update_inverses(folded(block, batches[0]), 0.1)
        return block.multiply_inverse(state, vector)

    for found, expected in zip(stepped(kept), stepped(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    both = (block.full_fisher_block(folded(block, *batches)) for block in (kept, whole))
    assert np.max(np.abs(np.subtract(*both))) > 0.1


def test_blocks_of_both_sides_can_be_damped_exactly(rng):
    block = block_of(
        input_blocks=3, output_blocks=2, damping_type="exact", cholesky=True
    )
    x, g = data(rng)
    state = block.update_inverses(folded(block, (x, g)), 0.1)
    rows = np.concatenate([x, np.ones((5, 1))], axis=1)
    sides = []
    for own, side in ((np.arange(7) // 3, rows), (np.arange(4) // 2, g)):
        sides.append(np.where(own[:, None] == own, side.T @ side / 5, 0.0))
    damped = np.kron(*sides) + 0.1 * np.eye(28)
    vector = rng.normal(size=28)
    params = vector[:24].reshape(6, 4), vector[24:]
    found = block.multiply_inverse(state, params)
    solved = np.concatenate([part.ravel() for part in found])
    np.testing.assert_allclose(damped @ solved, vector, rtol=0, atol=1e-11)
    half = block.multiply_cholesky(state, params)
    once = np.concatenate([x.ravel() for x in block.multiply_cholesky(state, half)])
    np.testing.assert_allclose(once, damped @ vector, rtol=0, atol=1e-11)


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"{}_max_rows": 8, "diagonal_approx_for_{}": True}, "one of these forms"),
        ({"{}_blocks": 2, "diagonal_approx_for_{}": True}, "one of these forms"),
        ({"{}_blocks": 2, "{}_max_rows": 8}, "one of these forms"),
        ({"{}_max_rows": 8, "damping_type": "exact"}, "damping_type 'exact'"),
        ({"{}_max_rows": 8, "cholesky": True}, "Cholesky"),
        ({"{}_blocks": 9}, "blocks=[47]"),
    ],
)
def test_what_does_not_go_together_is_refused(side, options, word):
    options = {key.format(side): value for key, value in options.items()}
    with pytest.raises(
        kc.errors.ArgumentError, match=rf"{NAME} \({side} factor\).*{word}"
    ):
        block_of(**options)


@pytest.mark.parametrize("option", ["input_max_rows", "output_blocks"])
@pytest.mark.parametrize("number", [0, -1, 2.5, "3", True])
def test_no_number_of_rows_or_blocks_is_refused(option, number):
    with pytest.raises(
        kc.errors.ArgumentError, match=f"{NAME}: {option} is {number!r}"
    ):
        block_of(**{option: number})


def test_a_registration_takes_them_as_options():
    params = {"w": np.zeros((6, 4)), "b": np.zeros(4)}
    layers = kc.LayerCollection.of(params).register_fully_connected(
        ("w", "b"), site="x", input_max_rows=8, output_blocks=2, name=NAME
    )
    assert layers.layers[0].block == block_of(input_max_rows=8, output_blocks=2)


def test_more_rows_than_are_kept_leave_both_sides_as_they_are(rng):
    block = block_of(input_max_rows=4)
    with pytest.raises(
        kc.errors.ShapeError, match=rf"{NAME}.*inputs has 5 rows.*max_rows"
    ):
        folded(block, data(rng))
