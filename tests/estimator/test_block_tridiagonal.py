"""The block-tridiagonal estimator is the matrix of Martens & Grosse (2015), 4.3."""

import numpy as np
import pytest
from estimator_cases import (
    CATEGORICAL,
    assert_close,
    assert_differs,
    assert_named_close,
    draw_like_params,
    flat,
    moved,
)

from kfac_core.errors import NotComputedError
from kfac_core.estimator import BlockTridiagonalEstimator, sources
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
from kfac_core.reference import (
    Batch,
    Dense,
    Sequential,
    SequentialModel,
    Tanh,
    dense_fisher,
)

MODEL = SequentialModel(
    Sequential(
        (
            Dense(3, 4),
            Tanh(),
            Dense(4, 3, has_bias=False),
            Tanh(),
            Dense(3, 2),
        )
    )
)
COLLECTION = MODEL.layer_collection(CATEGORICAL)
ESTIMATOR = BlockTridiagonalEstimator(COLLECTION, "exact")
NAMES = ESTIMATOR.diagonal.variables
LAYERS = ("dense_0", "dense_1", "dense_2")
SIZES = (16, 12, 8)
DAMPING = 0.05

# With squared error and no bias, inputs and output gradients are independent.
LINEAR = SequentialModel(Sequential((Dense(3, 3, has_bias=False),) * 4))
OF_LINEAR = LINEAR.layer_collection(NormalMeanNegativeLogProbLoss())


def place(i):
    """Return where the parameters of a layer are among all."""
    return slice(sum(SIZES[:i]), sum(SIZES[: i + 1]))


def problem(rng, batch=7):
    return draw_like_params(MODEL, rng), Batch(rng.standard_normal((batch, 3)))


def moments(linearization):
    """Return ``E[a_i a_j']`` and ``E[g_i g_j']`` of all layers, by their numbers."""
    vectors = list(sources(COLLECTION, linearization, "exact", {}))
    gradients = [linearization.output_gradients(v) for v in vectors]
    a = [linearization.layer_inputs[name] for name in LAYERS]
    ones = np.ones((len(a[0]), 1))
    a = [x if i == 1 else np.concatenate([x, ones], axis=1) for i, x in enumerate(a)]
    g = [np.concatenate([own[name] for own in gradients]) for name in LAYERS]
    pairs = [(i, j) for i in range(3) for j in range(3)]
    return (
        {(i, j): a[i].T @ a[j] / len(ones) for i, j in pairs},
        {(i, j): g[i].T @ g[j] / len(ones) for i, j in pairs},
    )


def damp(a, g):
    """Damp the factors of each layer as the paper does, in section 6.3."""
    for i in range(3):
        pi = np.sqrt(np.trace(a[i, i]) / len(a[i, i]))
        pi /= np.sqrt(np.trace(g[i, i]) / len(g[i, i]))
        a[i, i] = a[i, i] + pi * np.sqrt(DAMPING) * np.eye(len(a[i, i]))
        g[i, i] = g[i, i] + np.sqrt(DAMPING) / pi * np.eye(len(g[i, i]))


def inverse_of_the_paper(a, g):
    """Return ``Xi' Lambda Xi``, dense."""
    f = {key: np.kron(a[key], g[key]) for key in a}
    xi, middle = np.eye(sum(SIZES)), np.zeros((sum(SIZES), sum(SIZES)))
    for i in range(3):
        rest = f[i, i]
        if i < 2:
            psi = f[i, i + 1] @ np.linalg.inv(f[i + 1, i + 1])
            xi[place(i), place(i + 1)] = -psi
            rest = rest - psi @ f[i + 1, i + 1] @ psi.T
        middle[place(i), place(i)] = np.linalg.inv(rest)
    return xi.T @ middle @ xi


def computed(params, batch, v):
    """Return the dense matrix, and products with its inverse and with itself."""
    made = MODEL.linearize(params, batch)
    state = ESTIMATOR.update_covs(ESTIMATOR.init(params), made, 0.9)
    state = ESTIMATOR.update_inverses(state, DAMPING)
    return (
        ESTIMATOR.full_fisher(state),
        ESTIMATOR.multiply_inverse(state, v),
        ESTIMATOR.multiply(state, v),
    )


@pytest.fixture
def truth(rng):
    """Return a problem, its damped moments and the inverse of the paper."""
    params, batch = problem(rng)
    a, g = moments(MODEL.linearize(params, batch))
    damp(a, g)
    return params, batch, (a, g), inverse_of_the_paper(a, g)


@pytest.fixture
def state(truth):
    params, batch, _, _ = truth
    made = MODEL.linearize(params, batch)
    state = ESTIMATOR.update_covs(ESTIMATOR.init(params), made, 0.9)
    return ESTIMATOR.update_inverses(state, DAMPING)


def test_it_is_the_matrix_of_the_paper(library, rng, truth):
    params, batch, _, inverse = truth
    v = draw_like_params(MODEL, rng)
    given = [moved(library, part) for part in (params, batch, v)]
    dense, *products = library.compiled(computed)(*given)
    vector, expected = flat(v, NAMES), np.linalg.inv(inverse)
    assert_close(library.to_numpy(dense), expected, 1e-10)
    for product, matrix in zip(products, (inverse, expected), strict=True):
        found = {name: library.to_numpy(x) for name, x in product.items()}
        assert_close(flat(found, NAMES), matrix @ vector, 1e-10)


def test_in_float32_it_is_off_by_rounding(rng, truth):
    params, batch, _, inverse = truth
    v = draw_like_params(MODEL, rng)
    short = [{n: x.astype(np.float32) for n, x in part.items()} for part in (params, v)]
    dense, product, _ = computed(
        short[0], Batch(batch.inputs.astype(np.float32)), short[1]
    )
    assert {dense.dtype, *(x.dtype for x in product.values())} == {np.dtype("f4")}
    # Rounding of the inputs and of each factor, and what an inverse makes of it.
    bound = np.finfo(np.float32).eps * np.linalg.cond(inverse)
    assert_close(dense, np.linalg.inv(inverse), bound)
    assert_close(flat(product, NAMES), inverse @ flat(v, NAMES), bound)


def test_each_layer_with_itself_and_the_next_is_that_of_kfac(truth, state):
    _, _, (a, g), _ = truth
    dense = ESTIMATOR.full_fisher(state)
    for i in range(3):
        for j in range(3):
            block, kron = dense[place(i), place(j)], np.kron(a[i, j], g[i, j])
            if abs(i - j) < 2:
                assert_close(block, kron, 1e-10)
            else:
                assert_differs(block, kron)


def test_the_inverse_alone_is_block_tridiagonal(state):
    dense = ESTIMATOR.full_fisher(state)
    inverse = np.linalg.inv(dense)
    for i in range(3):
        for j in range(3):
            own = [np.abs(x[place(i), place(j)]).max() for x in (inverse, dense)]
            apart = abs(i - j) > 1
            assert (own[0] < 1e-10 * np.abs(inverse).max()) == apart
            assert own[1] > 1e-5 * np.abs(dense).max()


def test_of_all_matrices_with_these_blocks_it_has_the_largest_determinant(rng, state):
    dense = ESTIMATOR.full_fisher(state)
    least = np.linalg.eigvalsh(dense)[0]
    for _ in range(3):
        other = dense.copy()
        change = rng.standard_normal((SIZES[0], SIZES[2]))
        change *= 0.5 * least / np.linalg.norm(change)
        other[place(0), place(2)] += change
        other[place(2), place(0)] += change.T
        assert np.linalg.slogdet(other)[1] < np.linalg.slogdet(dense)[1]


def test_without_cross_factors_it_is_block_diagonal_kfac(rng, state):
    v = draw_like_params(MODEL, rng)
    apart = tuple(
        own._replace(
            inputs=own.inputs._replace(total=own.inputs.total * 0),
            outputs=own.outputs._replace(total=own.outputs.total * 0),
        )
        for own in state.cross
    )
    alone = ESTIMATOR.update_inverses(state._replace(cross=apart), DAMPING)
    expected = ESTIMATOR.diagonal.multiply_inverse(state.diagonal, v)
    assert_named_close(ESTIMATOR.multiply_inverse(alone, v), expected, 1e-11)
    together = ESTIMATOR.multiply_inverse(state, v)
    assert_differs(flat(together, NAMES), flat(expected, NAMES))


def of_linear(rng, damping):
    """Return the exact Fisher, damped, the chain, and block-diagonal K-FAC."""
    params = draw_like_params(LINEAR, rng)
    made = LINEAR.linearize(params, Batch(rng.standard_normal((40, 3))))
    estimator = BlockTridiagonalEstimator(OF_LINEAR, "exact")
    state = estimator.update_covs(estimator.init(params), made, 0.0)
    state = estimator.update_inverses(state, damping)
    chain = estimator.full_fisher(state)
    apart = chain * np.kron(np.eye(4), np.ones((9, 9)))
    exact = dense_fisher(OF_LINEAR, made).matrix + damping * np.eye(36)
    return exact, chain, apart


def distance(x, truth):
    return np.linalg.norm(x - truth) / np.linalg.norm(truth)


def test_of_a_linear_network_it_is_the_fisher_as_damping_vanishes(rng):
    exact, chain, apart = of_linear(rng, 1e-10)
    # What is damped is off by the root of the damping.
    assert distance(chain, exact) < 1e-4
    assert distance(apart, exact) > 0.1


@pytest.mark.parametrize("damping", [1.0, 0.1, 0.01])
def test_of_a_linear_network_it_is_nearer_than_block_diagonal_kfac(rng, damping):
    exact, chain, apart = of_linear(rng, damping)
    assert distance(chain, exact) < distance(apart, exact)
    inverses = [np.linalg.inv(x) for x in (exact, chain, apart)]
    assert distance(inverses[1], inverses[0]) < distance(inverses[2], inverses[0])


@pytest.mark.parametrize("damping", [1e-8, 1.0])
def test_it_is_positive_definite_with_fewer_cases_than_rows(rng, damping):
    params, batch = problem(rng, batch=2)
    made = MODEL.linearize(params, batch)
    state = ESTIMATOR.update_covs(ESTIMATOR.init(params), made, 0.0)
    dense = ESTIMATOR.full_fisher(ESTIMATOR.update_inverses(state, damping))
    assert_close(dense, dense.T)
    np.linalg.cholesky(dense)


def test_averages_of_batches_are_those_of_all_cases(rng):
    params, batch = problem(rng, batch=8)
    parts = [Batch(batch.inputs[:4]), Batch(batch.inputs[4:])]
    found = ESTIMATOR.init(params)
    for part in parts:
        found = ESTIMATOR.update_covs(found, MODEL.linearize(params, part), 1.0)
    whole = ESTIMATOR.init(params)
    whole = ESTIMATOR.update_covs(whole, MODEL.linearize(params, batch), 1.0)
    dense = [
        ESTIMATOR.full_fisher(ESTIMATOR.update_inverses(state, DAMPING))
        for state in (found, whole)
    ]
    assert_close(dense[0], dense[1])
    assert (int(found.cases), int(whole.cases)) == (8, 8)


def shard(params, x):
    """Return the state after a batch that counts by its cases; none is no update."""
    state = ESTIMATOR.init(params)
    if len(x):
        made = MODEL.linearize(params, Batch(x))
        state = ESTIMATOR.update_covs(state, made, 1.0, float(len(x)))
    return state


def test_shards_are_one_data_set(library, rng):
    params, batch = problem(rng, batch=9)
    x = batch.inputs
    shards = [library.moved(shard(params, own)) for own in (x[:2], x[2:], x[:0])]
    union = library.compiled(ESTIMATOR.merge)(*shards)
    whole = ESTIMATOR.update_inverses(shard(params, x), DAMPING)
    # The cases that two shards share between layers count: without them it is another.
    alone = shards[0]._replace(diagonal=union.diagonal)
    update = library.compiled(ESTIMATOR.update_inverses)
    found = ESTIMATOR.full_fisher(update(union, DAMPING))
    assert_close(library.to_numpy(found), ESTIMATOR.full_fisher(whole), 1e-10)
    assert int(union.cases) == 9
    assert bool(union.ok)
    other = ESTIMATOR.full_fisher(update(alone, DAMPING))
    assert_differs(library.to_numpy(other), ESTIMATOR.full_fisher(whole))


def test_a_product_with_a_union_needs_an_update(truth, state):
    union = ESTIMATOR.merge(state, state)
    assert not np.any(union.links[0].rows)
    with pytest.raises(NotComputedError):
        ESTIMATOR.multiply_inverse(union, truth[0])


def test_one_program_refuses_a_union_that_overflows(jax, state):
    largest = np.finfo(float).max
    first = jax.tree.map(jax.numpy.asarray, state)
    block = first.diagonal.blocks["dense_0"]
    cov = block.input_factor.cov
    cov = cov._replace(total=cov.total * 0 + 0.75 * largest)
    factor = block.input_factor._replace(cov=cov)
    blocks = {**first.diagonal.blocks, "dense_0": block._replace(input_factor=factor)}
    large = first._replace(diagonal=first.diagonal._replace(blocks=blocks))
    union = jax.jit(ESTIMATOR.merge)(large, large)
    assert not bool(union.ok)
    kept = (union.cross, union.links, union.damped)
    for x, y in zip(
        jax.tree.leaves(kept),
        jax.tree.leaves((large.cross, large.links, large.damped)),
        strict=True,
    ):
        assert np.array_equal(x, y)


def test_one_layer_is_a_chain(rng):
    model = SequentialModel(Sequential((Dense(3, 2),)))
    estimator = BlockTridiagonalEstimator(model.layer_collection(CATEGORICAL))
    params = draw_like_params(model, rng)
    made = model.linearize(params, Batch(rng.standard_normal((5, 3))))
    state = estimator.update_covs(estimator.init(params), made, 0.5, key=rng)
    state = estimator.update_inverses(state, 0.1)
    expected = estimator.diagonal.multiply_inverse(state.diagonal, params)
    assert_named_close(estimator.multiply_inverse(state, params), expected)


def test_one_program_refuses_what_is_not_finite(jax, rng):
    model = SequentialModel(Sequential((Dense(2, 2), Dense(2, 1, has_bias=False))))
    loss = NormalMeanNegativeLogProbLoss()
    estimator = BlockTridiagonalEstimator(model.layer_collection(loss), "exact")
    params = draw_like_params(model, rng)
    params = {name: jax.numpy.asarray(x) for name, x in params.items()}
    x = rng.standard_normal((5, 2))
    traces = []

    @jax.jit
    def step(state, x, decay, damping):
        traces.append(x)
        made = model.linearize(params, Batch(x))
        state = estimator.update_covs(state, made, decay)
        return estimator.update_inverses(state, damping)

    good = step(estimator.init(params), x, 0.5, 0.1)
    bad = step(good, x * np.nan, 0.9, 0.1)
    assert (bool(good.ok), bool(bad.flag("cov_ok"))) == (True, False)
    assert np.array_equal(good.cross[0].inputs.total, bad.cross[0].inputs.total)
    assert np.array_equal(good.cross[0].outputs.weight, bad.cross[0].outputs.weight)
    without = step(good, x, 0.9, -1.0)
    flags = [bool(without.flag(name)) for name in ("cov_ok", "derived_ok")]
    assert flags == [True, False]
    assert np.array_equal(good.links[0].rows, without.links[0].rows)
    assert len(traces) == 1
