"""Blocks of shared layers whose uses are taken to be independent."""

from itertools import product

import numpy as np
import pytest
from block_case import undamped
from block_cases import BLOCKS

import kfac_core as kc

T, N = 3, 4
DAMPING = 0.3


def draw_rows(rng, n):
    return rng.normal(size=(T, n, 3)), rng.normal(size=(T, n, 2))


def forms(x, asarray):
    rows = asarray(x.reshape(-1, *x.shape[2:]))
    return rows, asarray(x), kc.Uses(tuple(map(asarray, x)))


@pytest.mark.parametrize("name", ["dense-uses", "embedding-uses"])
def test_every_form_of_inputs_and_of_gradients_gives_the_same(plain_library, name, rng):
    library = plain_library
    case = BLOCKS[name]
    x, g = case.draw(rng, N)
    wanted = undamped(case.fisher(x, g))
    block = case.make(num_uses=T)
    like = library.asarray(g)
    halves = [forms(half, library.asarray) for half in (x[:, :1], x[:, 1:])]
    towers = [(first, second) for first, second in zip(*halves, strict=True)]
    split = (library.asarray(g[:, :1]), kc.Uses(tuple(map(library.asarray, g[:, 1:]))))
    pairs = product(forms(x, library.asarray), forms(g, library.asarray))
    for inputs, gradients in [*pairs, *((tower, split) for tower in towers)]:
        state = block.update_covs(block.init(like), inputs, gradients, 0.5)
        found = library.to_numpy(block.full_fisher_block(state))
        np.testing.assert_allclose(found, wanted, atol=1e-13)
    twice = block.update_covs(block.init(like), towers[0], (split, split), 0.5)
    found = library.to_numpy(block.full_fisher_block(twice))
    np.testing.assert_allclose(found, 2 * wanted, atol=1e-13)


def fisher_of(x, g):
    """Return the mean over cases of the outer product of the gradient of all uses."""
    gradients = np.einsum("tni,tno->nio", x, g).reshape(x.shape[1], -1)
    return gradients.T @ gradients / len(gradients)


ROWS = np.asarray([[1.0, 2.0], [0.0, -1.0], [3.0, 1.0]])
SIGNS = np.asarray([[1.0], [-1.0]])


def block_of(x, g):
    block = kc.blocks.FullyConnectedMultiIndepFB(x.shape[-1], g.shape[-1])
    return block.full_fisher_block(block.update_covs(block.init(x), x, g, 0.5))


def test_exact_where_uses_are_independent():
    # All pairs of rows and all pairs of signs, each as probable as any other.
    cases = list(product(ROWS, ROWS, SIGNS, SIGNS))
    x = np.asarray([[case[t] for case in cases] for t in (0, 1)])
    g = np.asarray([[case[t] for case in cases] for t in (2, 3)])
    np.testing.assert_allclose(block_of(x, g), fisher_of(x, g), rtol=1e-13)


def test_not_exact_where_they_are_not():
    cases = list(product(ROWS, ROWS, SIGNS))
    x = np.asarray([[case[t] for case in cases] for t in (0, 1)])
    g = np.asarray([[case[2] for case in cases] for _ in (0, 1)])
    assert np.abs(block_of(x, g) - fisher_of(x, g)).max() > 1


def test_one_use_is_the_basic_block(rng):
    x, g = rng.normal(size=(1, 6, 3)), rng.normal(size=(1, 6, 2))
    vector = (rng.normal(size=(3, 2)), rng.normal(size=2))
    found = []
    for block, data in (
        (kc.blocks.FullyConnectedMultiIndepFB(3, 2, True), (x, g)),
        (kc.blocks.FullyConnectedKFACBasicFB(3, 2, True), (x[0], g[0])),
    ):
        state = block.update_covs(block.init(x), *data, 0.5)
        state = block.update_inverses(state, DAMPING)
        found.append(np.concatenate(block.multiply_inverse(state, vector), axis=None))
    np.testing.assert_allclose(*found, rtol=1e-14)


def test_the_number_of_uses_is_averaged_as_statistics_are(rng):
    block = kc.blocks.FullyConnectedMultiIndepFB(1, 1)
    state = block.init(np.zeros(1))
    for uses in (2, 4):
        ones = np.ones((uses, 3, 1))
        state = block.update_covs(state, ones, ones, ema_decay=0.5)
    wanted = (0.5 * 2 + 4) / 1.5
    np.testing.assert_allclose(block.full_fisher_block(state), [[wanted]], rtol=1e-15)


def test_data_that_contradict_each_other_are_refused(plain_library, rng):
    library = plain_library
    x, g = (library.asarray(part) for part in draw_rows(rng, N))
    block = kc.blocks.FullyConnectedMultiIndepFB(3, 2, name="cell")
    state = block.init(x)
    rows = kc.backend_of(x).xp.reshape(x, (-1, 3))
    for refused, inputs, gradients, words in (
        (kc.errors.ArgumentError, x, g[1:, ...], "3 uses and outputs_grads 2"),
        (kc.errors.ShapeError, x, g[:, 1:, :], "same cases"),
        (kc.errors.ArgumentError, rows, g, "inputs.*num_uses"),
        (kc.errors.ArgumentError, (x, x[1:, ...]), (g, g[1:, ...]), r"\[3, 2\] uses"),
        (kc.errors.ArgumentError, (), (), "at least one tower"),
        (kc.errors.ShapeError, (x, x), (g,), "same cases"),
        (kc.errors.ShapeError, x, g[..., :1], "outputs_grads"),
    ):
        with pytest.raises(refused, match=f"cell.*{words}"):
            block.update_covs(state, inputs, gradients, 0.5)
    ids = kc.blocks.EmbeddingKFACMultiIndepFB(4, 2)
    wrong = library.asarray(np.full((T, N), 9))
    for refused, data in (
        (kc.errors.ArgumentError, wrong),
        (kc.errors.DTypeError, x[..., 0]),
        (kc.errors.ShapeError, kc.Uses(())),
    ):
        with pytest.raises(refused):
            ids.update_covs(ids.init(g), data, g, 0.5)
    with pytest.raises(kc.errors.ArgumentError, match="num_uses"):
        kc.blocks.FullyConnectedMultiIndepFB(3, 2, num_uses=0)


def test_uses_alone_are_no_towers(rng):
    x, g = draw_rows(rng, N)
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2)
    with pytest.raises(kc.errors.BackendError):
        block.update_covs(block.init(x), kc.Uses(tuple(x)), kc.Uses(tuple(g)), 0.5)
