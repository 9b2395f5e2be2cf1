"""Sides of shared layers too wide for their matrices: rows, or blocks, of all uses."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.typing import Uses

T, N = 3, 5
FORMS = {
    "axis": ({}, lambda x: x),
    "uses": ({}, lambda x: Uses(tuple(x))),
    "rows": ({"num_uses": T}, lambda x: x.reshape(T * N, -1)),
    "batch-first": ({"batch_first": True}, lambda x: np.swapaxes(x, 0, 1)),
}


def in_blocks(dense, size):
    own = np.arange(len(dense)) // size
    return np.where(own[:, None] == own, dense, 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_rows_and_blocks_of_all_uses(plain_library, form, rng):
    options, arranged = FORMS[form]
    block = kc.blocks.FullyConnectedMultiIndepFB(
        6, 4, True, input_max_rows=T * N, output_blocks=2, **options
    )
    x, g = rng.normal(size=(T, N, 6)), rng.normal(size=(T, N, 4))
    arrays = []
    for data in (x, g):
        found = arranged(data)
        if isinstance(found, Uses):
            arrays.append(Uses(tuple(map(plain_library.asarray, found.arrays))))
        else:
            arrays.append(plain_library.asarray(found))
    state = block.init(plain_library.asarray(np.zeros(1)))
    state = block.update_covs(state, *arrays, ema_decay=0.0)
    rows = np.concatenate([x.reshape(-1, 6), np.ones((T * N, 1))], axis=1)
    grads = g.reshape(-1, 4)
    sides = rows.T @ rows / (T * N), in_blocks(grads.T @ grads / (T * N), 2)
    wanted = T * np.kron(*sides)
    found = plain_library.to_numpy(block.full_fisher_block(state))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * abs(wanted).max())


@pytest.mark.parametrize("multi", [False, True])
def test_an_embedding_of_wide_outputs(multi, rng):
    make = kc.blocks.EmbeddingKFACMultiIndepFB if multi else kc.blocks.EmbeddingKFACFB
    ids, g = rng.integers(0, 3, (2, 4)), rng.normal(size=(2, 4, 4))
    if not multi:
        ids, g = ids[0], g[0]
    block = make(3, 4, output_blocks=2)
    state = block.update_covs(block.init(like=g), ids, g, ema_decay=0.0)
    grads = g.reshape(-1, 4)
    counts = np.bincount(ids.ravel(), minlength=3) / ids.size
    uses = 2 if multi else 1
    dense = in_blocks(grads.T @ grads / len(grads), 2)
    wanted = uses * np.kron(np.diag(counts), dense)
    np.testing.assert_allclose(block.full_fisher_block(state), wanted, atol=1e-14)
    rows = make(3, 4, output_max_rows=len(grads))
    state = rows.update_covs(rows.init(like=g), ids, g, ema_decay=0.0)
    wanted = uses * np.kron(np.diag(counts), grads.T @ grads / len(grads))
    np.testing.assert_allclose(rows.full_fisher_block(state), wanted, atol=1e-14)


@pytest.mark.parametrize("approx", ["kron_series_1", "kron_series_2"])
def test_a_series_has_no_such_option_and_lists_its_own(approx):
    collection = kc.LayerCollection.of({"w": (6, 4)})
    wanted = r"^w: .output_blocks. cannot be options of FullyConnectedSeriesFB.*steps"
    with pytest.raises(kc.errors.ArgumentError, match=wanted):
        collection.register_fully_connected_multi(
            "w", ("a", "b"), approx=approx, output_blocks=2
        )


def test_registrations_of_shared_layers_take_them():
    collection = kc.LayerCollection.of({"w": (6, 4), "table": (6, 4)})
    collection = collection.register_fully_connected_multi(
        "w", ("a", "b"), input_max_rows=8, output_blocks=2
    ).register_embedding_multi("table", ("c", "d"), output_max_rows=8)
    first, second = (layer.block for layer in collection.layers)
    assert (first.input_max_rows, first.output_blocks) == (8, 2)
    assert second.output_max_rows == 8
