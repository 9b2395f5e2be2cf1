"""Weights of towers: each tower has those of its own kind, of cases or of their parts.

The statistics of several towers are the mean of those of each, by their rows.
"""

from itertools import product

import numpy as np
import pytest
from block_case import BlockCase, NumPy
from block_cases import BLOCKS
from block_truth import in_uses

import kfac_core as kc

FLAGS = (True, False, True)
PARTIAL = BlockCase(
    lambda **options: kc.blocks.FullyConnectedMultiPartialBiasFB(
        2, 2, FLAGS, **options
    ),
    in_uses((2,), (2,)),
    ((2, 2), (2,)),
    lambda x, g: NotImplemented,
    axis=1,
)
USED = {name: case for name, case in BLOCKS.items() if case.axis == 1}
USED["partial-bias"] = PARTIAL
PLACED = (
    "conv-bias",
    "conv-channels-first",
    "conv-masked",
    "conv-diagonal",
    "grouped",
    "depthwise",
    "depthwise-diagonal",
    "scale-and-shift",
    "scale-and-shift-diagonal",
    "transposed-output",
)
CASES = USED | {name: BLOCKS[name] for name in PLACED}
FIRST, CASES_IN_ALL = 2, 6
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


def kinds_of_weights(case, data, rng):
    """Return weights of each kind for one tower."""
    g = data[1]
    cases = g.shape[case.axis]
    kinds = {"cases": rng.uniform(size=cases)}
    if case.axis == 1:
        w = rng.uniform(size=(g.shape[0], cases))
        return kinds | {"axes": w, "flat": w.reshape(-1), "uses": kc.Uses(tuple(w))}
    places = np.delete(g.shape, [0, case.channels])
    w = rng.uniform(size=(cases, *places))
    return kinds | {"places": w, "flat": w.reshape(cases, -1)}


def leaves(state):
    if isinstance(state, tuple):
        return [leaf for part in state for leaf in leaves(part)]
    return [np.asarray(state, float)]


@pytest.mark.parametrize("name", CASES)
def test_towers_add_up_whatever_the_kinds_of_their_weights(name, rng):
    case = CASES[name]
    block = case.made(case.kinds[0])
    number = (FIRST, CASES_IN_ALL - FIRST)
    towers = [case.draw(rng, n) for n in number]
    kinds = [kinds_of_weights(case, data, rng) for data in towers]

    def fold(data, weights):
        return leaves(
            case.fold(NumPy, block, block.init(np.zeros(1)), data, 0.0, weights=weights)
        )

    alone = [
        {kind: fold(data, w) for kind, w in own.items()}
        for data, own in zip(towers, kinds, strict=True)
    ]
    # The kinds are no two names of one thing.
    for states in alone:
        first, *others = states.values()
        assert any(not all(map(np.allclose, first, other)) for other in others)
    together = tuple(zip(*towers, strict=True))
    for one, other in product(*kinds):
        found = fold(together, (kinds[0][one], kinds[1][other]))
        for x, a, b in zip(found, alone[0][one], alone[1][other], strict=True):
            mean = (number[0] * a + number[1] * b) / sum(number)
            np.testing.assert_allclose(x, mean, **CLOSE, err_msg=f"{one}, {other}")


def draw_partial(rng):
    """Return inputs, gradients and weights of two towers, of cases and of uses."""
    x = [rng.normal(size=(3, n, 2)) for n in (4, 5)]
    g = [rng.normal(size=(3, n, 2)) for n in (4, 5)]
    return x, g, (rng.uniform(size=4), rng.uniform(size=(3, 5)))


def partial_truth(x, g, weights):
    """Return the dense block; weights are of cases, [N], or of uses, [T, N]."""
    a, b, bias, total, rows = 0.0, 0.0, 0.0, 0.0, 0
    for inputs, gradients, w in zip(x, g, weights, strict=True):
        by_use = np.broadcast_to(w, gradients.shape[:2])
        a = a + np.einsum("tn,tni,tnj->ij", by_use, inputs, inputs)
        b = b + np.einsum("tn,tni,tnj->ij", by_use, gradients, gradients)
        times = np.sqrt(by_use) if w.ndim == 1 else by_use
        summed = (times[:, :, None] * gradients)[[0, 2]].sum(0)
        bias = bias + summed.T @ summed
        total, rows = total + by_use.sum(), rows + by_use.size
    dense = np.zeros((6, 6))
    dense[:4, :4] = 3 * np.kron(a, b) / rows / total
    dense[4:, 4:] = bias / (rows / 3)
    return dense


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_bias_of_some_uses_has_weights_of_each_tower(
    library, batch_first, order, rng
):
    x, g, weights = ([given[i] for i in order] for given in draw_partial(rng))
    block = kc.blocks.FullyConnectedMultiPartialBiasFB(
        2, 2, FLAGS, batch_first=batch_first
    )

    def given(arrays):
        turned = batch_first and (lambda a: a if a.ndim == 1 else np.swapaxes(a, 0, 1))
        return tuple(library.asarray(turned(a) if turned else a) for a in arrays)

    state = block.init(library.asarray(np.zeros(1)))
    state = block.update_covs(
        state, given(x), given(g), ema_decay=0.0, weights=given(weights)
    )
    dense = library.to_numpy(block.full_fisher_block(state))
    expected = partial_truth(x, g, weights)
    np.testing.assert_allclose(dense, expected, **CLOSE)
    # A use that counts half adds half of its gradient; a case, the root of it.
    of_uses = [np.broadcast_to(w, (3, w.shape[-1])).copy() for w in weights]
    assert not np.allclose(dense, partial_truth(x, g, of_uses), rtol=1e-2)


def test_a_bias_of_some_uses_has_weights_of_each_tower_compiled(jax, rng):
    x, g, weights = draw_partial(rng)
    block = kc.blocks.FullyConnectedMultiPartialBiasFB(2, 2, FLAGS)
    state = block.init(jax.numpy.zeros(1))

    @jax.jit
    def dense(x, g, weights):
        new = block.update_covs(state, x, g, ema_decay=0.0, weights=weights)
        return block.full_fisher_block(new), new.ok

    found, ok = dense(tuple(x), tuple(g), weights)
    np.testing.assert_allclose(found, partial_truth(x, g, weights), **CLOSE)
    assert bool(ok)
    bad = weights[0], np.full_like(weights[1], np.nan)
    assert not bool(dense(tuple(x), tuple(g), bad)[1])


def test_a_bias_has_weights_of_uses_in_one_tower_and_of_cases_in_another(library, rng):
    g = rng.normal(size=(2, 4, 3, 2))
    w, v = rng.uniform(size=4), rng.uniform(size=(2, 4))
    move = library.asarray

    def dense(*weights):
        block = kc.blocks.BiasFullFB((2,))
        uses = kc.Uses(tuple(map(move, g)))
        state = block.update_covs(
            block.init(move(g)), (uses, uses), 0.0, weights=weights
        )
        return library.to_numpy(block.full_fisher_block(state))

    by_use = kc.Uses(tuple(map(move, v)))
    found = dense(move(w), by_use)
    roots = [np.broadcast_to(np.sqrt(w), (2, 4)), np.sqrt(v)]
    summed = [np.einsum("tn,tnpi->ni", root, g) for root in roots]
    expected = sum(s.T @ s for s in summed) / 8
    np.testing.assert_allclose(found, expected, **CLOSE)
    np.testing.assert_allclose(dense(by_use, move(w)), expected, **CLOSE)
    assert not np.allclose(found, dense(by_use, by_use))


@pytest.mark.parametrize("sources", ["uses", "cases"])
def test_weights_that_do_not_fit_a_source_of_a_bias_are_refused(sources, rng):
    g, w = rng.normal(size=(4, 3, 2)), np.ones(4)
    given = {
        "uses": (((kc.Uses((g, g)),), (g,)), kc.Uses((w, w))),
        "cases": (((g,), (g[:3],)), w),
    }
    gradients, weights = given[sources]
    block = kc.blocks.BiasFullFB((2,), name="layer")
    with pytest.raises(kc.errors.ShapeError, match="layer: weights has"):
        block.update_covs(block.init(g), gradients, 0.0, weights=weights)
