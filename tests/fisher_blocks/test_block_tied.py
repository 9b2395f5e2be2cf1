"""A matrix that unlike layers share has one block, of the data of all its uses."""

from dataclasses import replace

import numpy as np
import pytest
from block_case import NumPy, dense_power, flat, moment
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc
from kfac_core.linalg.pooling import POOLINGS, Term, pooled
from kfac_core.reference import TiedLanguageModel

BOTH = ("embedding", "transposed")
MODEL = TiedLanguageModel(5, 3)
DAMPING = 0.2


def assert_close(found, expected, rtol=1e-12):
    atol = rtol * max(np.abs(expected).max(), np.finfo(float).tiny)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def distance(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


def drawn(rng, batch=4, positions=3):
    params = (rng.normal(size=(5, 3)), rng.normal(size=5))
    return params, rng.integers(0, 5, (batch, positions))


def sources_of(params, ids):
    columns = MODEL.output_columns(MODEL.logits(params, ids))
    pairs = [MODEL.data(params, ids, g) for g in columns]
    return pairs[0][0], tuple((gradients,) for _, gradients in pairs)


def updated(block, inputs, gradients, like=None):
    state = block.init(like=np.zeros(1) if like is None else like)
    return block.update_covs(state, inputs, gradients, ema_decay=0.0)


def terms_of(inputs, sources):
    """Return ``(c, A, G)`` of both uses, by other means than the library's."""
    ids, hidden = inputs.arrays
    hot = np.eye(5)[ids.ravel()]
    positions = ids.shape[1]
    of_rows = sum(moment(g.arrays[0]) for (g,) in sources)
    of_logits = sum(moment(g.arrays[1]) for (g,) in sources)
    return [
        (positions, np.diag(hot.mean(0)), of_rows),
        (positions, of_logits, moment(hidden)),
    ]


def pooled_densely(terms, kind):
    total = sum(c * np.kron(a, g) for c, a, g in terms)
    count = sum(c for c, *_ in terms)
    if kind == "mean":
        a, g = (sum(t[0] * t[i] for t in terms) / count for i in (1, 2))
        return count * np.kron(a, g)
    n, m = len(terms[0][1]), len(terms[0][2])
    cells = total.reshape(n, m, n, m)
    if kind == "marginal":
        a, g = np.einsum("imjm->ij", cells), np.einsum("nknl->kl", cells)
        return np.kron(a, g) / np.trace(total)
    # The nearest: the first singular pair of the rearranged matrix.
    u, s, v = np.linalg.svd(cells.transpose(0, 2, 1, 3).reshape(n * n, m * m))
    return s[0] * np.kron(u[:, 0].reshape(n, n), v[0].reshape(m, m))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_it_is_the_pooled_product_of_the_sum(pooling, diagonal, rng):
    params, ids = drawn(rng)
    inputs, sources = sources_of(params, ids)
    block = kc.blocks.TiedWeightsKFACFB(
        5, 3, BOTH, pooling=pooling, diagonal_rows=diagonal, matpowers=(-1, 0.5)
    )
    terms = terms_of(inputs, sources)
    if diagonal:
        terms = [(c, np.diag(np.diagonal(a)), g) for c, a, g in terms]
    expected = pooled_densely(terms, pooling)
    state = updated(block, (inputs,), sources)
    # The nearest is found by a number of steps of an iteration.
    rtol = 1e-6 if pooling == "nearest" else 1e-12
    assert_close(block.full_fisher_block(state), expected, rtol)


@pytest.mark.parametrize("damping_type", ["pi", "exact"])
def test_products_are_those_with_the_damped_block(damping_type, rng):
    params, ids = drawn(rng)
    inputs, sources = sources_of(params, ids)
    block = kc.blocks.TiedWeightsKFACFB(
        5, 3, BOTH, has_bias=True, damping_type=damping_type, matpowers=(-1, 0.5)
    )
    state = block.update_inverses(updated(block, (inputs,), sources), DAMPING)
    vector = tuple(rng.normal(size=shape) for shape in ((5, 3), (5,)))
    dense = np.zeros((20, 20))
    one = block.parts[0][1]
    a, g = (factor.get_cov(own) for factor, own in one.factors(state.parts[0]).values())
    if damping_type == "exact":
        damped = 6 * np.kron(a, g) + DAMPING * np.eye(15)
    else:
        pi = np.sqrt(np.trace(a) / 5 / (np.trace(g) / 3))
        root = np.sqrt(DAMPING / 6)
        damped = 6 * np.kron(a + pi * root * np.eye(5), g + root / pi * np.eye(3))
    dense[:15, :15] = damped
    rows = [g.arrays[1].sum(1) for (g,) in sources]
    bias = sum(np.diag((r**2).mean(0)) for r in rows)
    dense[15:, 15:] = bias + DAMPING * np.eye(5)
    for exp in (1, -1, 0.5):
        found = flat(NumPy, block.multiply_matpower(state, vector, exp))
        assert_close(found, dense_power(dense, exp) @ flat(NumPy, vector), 1e-11)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_with_one_use_it_is_the_block_of_that_use(pooling, rng):
    x, g, ids = rng.normal(size=(6, 3)), rng.normal(size=(6, 5)), rng.integers(0, 5, 6)
    cases = {
        "transposed": (kc.blocks.FullyConnectedKFACBasicFB(3, 5), x, g, True),
        "fully_connected": (kc.blocks.FullyConnectedKFACBasicFB(5, 3), g, x, False),
        "embedding": (kc.blocks.EmbeddingKFACFB(5, 3), ids, x, False),
    }
    for use, (own, inputs, gradients, turned) in cases.items():
        block = kc.blocks.TiedWeightsKFACFB(5, 3, (use,), pooling=pooling)
        state = updated(block, kc.Uses((inputs,)), kc.Uses((gradients,)))
        found = block.full_fisher_block(state)
        expected = own.full_fisher_block(updated(own, inputs, gradients))
        if turned:
            order = np.arange(15).reshape(3, 5).T.ravel()
            expected = expected[np.ix_(order, order)]
        assert_close(found, expected)


@pytest.mark.parametrize("pooling", ["marginal", "nearest"])
@pytest.mark.parametrize("silent", [0, 1])
def test_a_use_without_gradients_changes_nothing(pooling, silent, rng):
    params, ids = drawn(rng)
    inputs, sources = sources_of(params, ids)
    muted = tuple(
        (kc.Uses(tuple(g * (k != silent) for k, g in enumerate(uses.arrays))),)
        for (uses,) in sources
    )
    block = kc.blocks.TiedWeightsKFACFB(
        5, 3, BOTH, pooling=pooling, diagonal_rows=False
    )
    c, a, g = terms_of(inputs, sources)[1 - silent]
    found = block.full_fisher_block(updated(block, (inputs,), muted))
    assert_close(found, c * np.kron(a, g))
    # The negative twin: means of unlike statistics mix them.
    mean = replace(block, pooling="mean")
    mixed = mean.full_fisher_block(updated(mean, (inputs,), muted))
    assert distance(mixed, c * np.kron(a, g)) > 0.05


def test_uses_of_one_kind_by_their_mean_are_a_shared_layer(rng):
    x, g = rng.normal(size=(2, 6, 5)), rng.normal(size=(2, 6, 3))
    block = kc.blocks.TiedWeightsKFACFB(5, 3, ("fully_connected",) * 2, pooling="mean")
    found = block.full_fisher_block(updated(block, kc.Uses((*x,)), kc.Uses((*g,))))
    shared = kc.blocks.FullyConnectedMultiIndepFB(5, 3)
    same = shared.full_fisher_block(updated(shared, x, g))
    assert_close(found, same)
    # As positions of one use, by any name.
    for pooling in POOLINGS:
        one = kc.blocks.TiedWeightsKFACFB(5, 3, ("fully_connected",), pooling=pooling)
        as_positions = (kc.Uses((np.moveaxis(each, 0, 1),)) for each in (x, g))
        assert_close(one.full_fisher_block(updated(one, *as_positions)), same)


@pytest.mark.parametrize("positions", [1, 3])
def test_the_sum_of_all_uses_and_the_bias_are_held_against_the_truth(positions, rng):
    params, ids = drawn(rng, batch=6, positions=positions)
    truth = MODEL.exact_fisher(params, ids)
    inputs, sources = sources_of(params, ids)
    found = {}
    for pooling in POOLINGS:
        block = kc.blocks.TiedWeightsKFACFB(
            5, 3, BOTH, has_bias=True, pooling=pooling, diagonal_rows=False
        )
        dense = block.full_fisher_block(updated(block, (inputs,), sources))
        assert_close(dense[15:, 15:], truth[15:, 15:])
        found[pooling] = distance(dense[:15, :15], truth[:15, :15])
    # An approximation, but of the right size.
    assert max(found.values()) < 0.9
    assert min(found.values()) > 0.1


def test_the_truth_is_that_of_jax(jax, rng):
    params, ids = drawn(rng, batch=2, positions=2)

    def logits(v, b, row):
        return jax.numpy.tanh(v[row]) @ v.T + b

    fisher = np.zeros((20, 20))
    for row in ids:
        z = np.asarray(logits(*params, row))
        found = jax.jacobian(logits, (0, 1))(*params, row)
        rows = np.concatenate([np.reshape(j, (2, 5, -1)) for j in found], axis=-1)
        for t in range(2):
            p = np.exp(z[t]) / np.exp(z[t]).sum()
            fisher += rows[t].T @ (np.diag(p) - np.outer(p, p)) @ rows[t] / 2
    assert_close(MODEL.exact_fisher(params, ids), fisher)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_library_agrees(library, pooling, rng):
    params, ids = drawn(rng)
    inputs, sources = sources_of(params, ids)
    block = kc.blocks.TiedWeightsKFACFB(5, 3, BOTH, has_bias=True, pooling=pooling)
    vector = tuple(rng.normal(size=shape) for shape in ((5, 3), (5,)))

    def products(asarray):
        def moved(uses):
            return kc.Uses(tuple(map(asarray, uses.arrays)))

        state = updated(
            block,
            (moved(inputs),),
            tuple((moved(g),) for (g,) in sources),
            like=asarray(np.zeros(1)),
        )
        state = block.update_inverses(state, DAMPING)
        return block.multiply_inverse(state, tuple(map(asarray, vector)))

    for x, y in zip(products(library.asarray), products(np.asarray), strict=True):
        assert_close(library.to_numpy(x), y, 1e-11)


def test_it_traces_and_a_bad_use_leaves_all_as_it_was(jax, rng):
    params, ids = drawn(rng)
    g = rng.normal(size=(4, 3, 5))
    block = kc.blocks.TiedWeightsKFACFB(5, 3, BOTH, has_bias=True, name="layer7")
    inputs, gradients = MODEL.data(params, ids, g)
    tree = jax.tree_util
    inputs, gradients = tree.tree_map(jax.numpy.asarray, (inputs, gradients))
    eager = updated(block, inputs, gradients, like=gradients.arrays[0])
    update = jax.jit(block.update_covs)
    state = update(block.init(gradients.arrays[0]), inputs, gradients, 0.0)
    for x, y in zip(tree.tree_leaves(state), tree.tree_leaves(eager), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    first, second = gradients.arrays
    for bad in (
        kc.Uses((first.at[0, 0, 0].set(np.nan), second)),
        kc.Uses((first, second.at[0, 0, 0].set(np.inf))),
    ):
        after = update(state, inputs, bad, 0.5)
        assert not bool(after.ok)
        pairs = zip(tree.tree_leaves(after), tree.tree_leaves(state), strict=True)
        for new, old in pairs:
            if new.dtype != bool:
                np.testing.assert_array_equal(new, old)
        assert bool(update(after, inputs, gradients, 0.5).ok)
        with pytest.raises(kc.errors.NotFiniteError, match="layer7"):
            block.update_covs(state, inputs, bad, 0.5)


@given(scale=st.integers(-60, 60), seed=st.integers(0, 99))
@pytest.mark.parametrize("pooling", ["marginal", "nearest"])
def test_how_a_scale_is_shared_by_the_sides_is_of_no_matter(pooling, scale, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 2))
    one = np.asarray(1.0)
    terms = [Term(one, moment(a), moment(g)) for a, g in zip(*rows, strict=True)]
    first, second = terms
    moved = second._replace(a=second.a * 2.0**scale, g=second.g * 2.0**-scale)
    backend = kc.backend_of(one)
    plain, other = (pooled(backend, [first, term], pooling) for term in (second, moved))
    dense = [t.uses * np.kron(t.a, t.g) for t in (plain, other)]
    assert_close(dense[1], dense[0], 1e-10)


@pytest.mark.parametrize("size", [1e-18, 1e-23, 1e15, 0.0])
def test_traces_far_apart_stay_in_the_range_of_float32(size):
    a, g = np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32)
    one, tiny = np.float32(1), np.float32(size)
    terms = [Term(np.asarray(one), a, g * tiny), Term(np.asarray(one), a * tiny, g)]
    for pooling in ("marginal", "nearest"):
        term = pooled(kc.backend_of(a), terms, pooling)
        wanted = float(tiny) * 2 * np.kron(np.eye(2), np.ones((2, 2)))
        found = float(term.uses) * np.kron(term.a.astype(float), term.g.astype(float))
        assert term.a.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=0)


REFUSED = {
    "kind": ({"uses": ("embedding", "decoder")}, "decoder"),
    "none": ({"uses": ()}, "uses"),
    "pooling": ({"pooling": "sum"}, "pooling"),
    "bias": ({"uses": ("embedding",), "has_bias": True}, "has_bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_specs_that_make_no_sense_are_refused(name):
    fields, word = REFUSED[name]
    with pytest.raises(kc.errors.ArgumentError, match=rf"layer7.*{word}"):
        kc.blocks.TiedWeightsKFACFB(
            **({"input_size": 5, "output_size": 3, "uses": BOTH} | fields),
            name="layer7",
        )


def test_data_that_do_not_fit_are_refused(rng):
    params, ids = drawn(rng)
    block = kc.blocks.TiedWeightsKFACFB(5, 3, BOTH, has_bias=True, name="layer7")
    inputs, gradients = MODEL.data(params, ids, rng.normal(size=(4, 3, 5)))
    (i, h), (e, z) = inputs.arrays, gradients.arrays
    for bad in (
        (kc.Uses((i,)), kc.Uses((e,))),
        (kc.Uses((i, h)), kc.Uses((e,))),
        (i, z),
        (kc.Uses((i[:3], h)), kc.Uses((e, z))),
        (kc.Uses((i, h[:, :2])), kc.Uses((e, z))),
        (kc.Uses((i, z)), kc.Uses((e, h))),
        (kc.Uses((i[:0], h[:0])), kc.Uses((e[:0], z[:0]))),
        ((inputs, inputs), gradients),
    ):
        with pytest.raises(kc.errors.ShapeError, match="layer7"):
            updated(block, *bad)
    with pytest.raises(kc.errors.ArgumentError, match=r"layer7.*expected 0 to 4"):
        updated(block, kc.Uses((i + 5, h)), gradients)
    state = block.update_inverses(updated(block, inputs, gradients), DAMPING)
    for wrong in (params[0], (params[0].T, params[1]), (*params, params[1])):
        with pytest.raises(kc.errors.ShapeError, match=r"layer7.*vector"):
            block.multiply_inverse(state, wrong)
