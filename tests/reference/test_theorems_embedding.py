"""Where the block of an embedding is exact: one id a case, or the diagonal alone."""

import numpy as np
import pytest
from hypothesis import given
from reference_cases import assert_close, assert_differs, random_params
from theorem_cases import (
    BATCHES,
    EXAMPLES,
    LOSSES,
    NARROW,
    SEEDS,
    fitted,
    kfac_and_fisher,
    kfac_of,
)

from kfac_core.reference import (
    Dense,
    Embedding,
    Sequential,
    Tanh,
    block_for,
    exact_fisher,
    exact_sources,
)

VOCABULARY = 5


def embedded(seed, shape, activations=()):
    network = Sequential((Embedding(VOCABULARY, 3), *activations, Dense(3, 2)))
    rng = np.random.default_rng(seed)
    ids = rng.integers(VOCABULARY, size=shape)
    return network, random_params(network, rng), ids


@given(seed=SEEDS, batch=BATCHES, loss=LOSSES)
def test_t19_one_id_a_case_has_a_diagonal_input_factor(seed, batch, loss):
    network, params, ids = embedded(seed, batch, [Tanh()])
    block = block_for(network.layers[0])
    data = exact_sources(network, params, ids, loss)[0]
    state = fitted(block, data)
    counts = np.bincount(ids, minlength=VOCABULARY)
    a = block.input_factor.get_cov(state.input_factor)
    assert_close(a, np.diag(counts) / batch)

    # The Fisher has a block for each id: the mean over its own cases of g g'. K-FAC
    # has the mean over all cases instead.
    fisher = exact_fisher(network, params, ids, loss, layer=0)
    g = np.stack([source for (source,) in data.outputs_grads])
    moments = np.einsum("cni,cnj->nij", g, g)
    expected, approximate = np.zeros((2, VOCABULARY, 3, VOCABULARY, 3))
    for i, count in enumerate(counts):
        expected[i, :, i, :] = moments[ids == i].sum(axis=0) / batch
        approximate[i, :, i, :] = count / batch * moments.mean(axis=0)
    assert_close(fisher, expected.reshape(fisher.shape))
    kfac = block.full_fisher_block(state)
    assert_close(kfac, approximate.reshape(fisher.shape))


@given(seed=SEEDS, batch=BATCHES)
def test_t19_exact_where_the_means_are_equal(seed, batch):
    network, params, ids = embedded(seed, batch)
    assert_close(*kfac_and_fisher(network, params, ids, NARROW, layer=0))


@EXAMPLES
def test_t19_not_where_they_differ(seed):
    network, params, ids = embedded(seed, 20, [Tanh()])
    params = ((2 * params[0][0],), params[1])
    assert_differs(*kfac_and_fisher(network, params, ids, NARROW, layer=0))


@given(seed=SEEDS, batch=BATCHES)
def test_t19_several_ids_a_case_keep_the_diagonal_by_squared_counts(seed, batch):
    network, params, ids = embedded(seed, (batch, 4))
    kfac, fisher = kfac_and_fisher(network, params, ids, NARROW, layer=0)
    assert_close(np.diagonal(kfac), np.diagonal(fisher))


@pytest.mark.parametrize("repeated_ids", ["n_hot", "count"])
@EXAMPLES
def test_t19_not_by_other_counts(repeated_ids, seed):
    network, params, ids = embedded(seed, (5, 4))
    ids[:, 1] = ids[:, 0]
    data = exact_sources(network, params, ids, NARROW)[0]
    kfac = kfac_of(network.layers[0], data, repeated_ids=repeated_ids)
    fisher = exact_fisher(network, params, ids, NARROW, layer=0)
    assert_differs(np.diagonal(kfac), np.diagonal(fisher))


@EXAMPLES
def test_t19_several_ids_a_case_are_off_the_diagonal_too(seed):
    network, params, ids = embedded(seed, (5, 4))
    ids[:, :2] = [0, 1]
    assert_differs(*kfac_and_fisher(network, params, ids, NARROW, layer=0))
