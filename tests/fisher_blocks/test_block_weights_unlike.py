"""Weights of rows where a layer has several uses, inputs or kinds of locations."""

import numpy as np
import pytest
from block_case import NumPy, moment

import kfac_core as kc
from kfac_core.linalg.pooling import POOLINGS

MASK = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
TIMES = np.asarray([2.0, 0.0, 1.0, 3.0])
ROOTS = np.sqrt(TIMES)
TIED = ("embedding", "transposed", "fully_connected")


def tied(pooling):
    return lambda **options: kc.blocks.TiedWeightsKFACFB(
        5, 3, TIED, has_bias=True, pooling=pooling, **options
    )


def draw_tied(rng, cases):
    """Return ids, positions of a decoder, and rows; and their gradients."""
    inputs = (
        rng.integers(0, 5, (cases, 2)),
        rng.normal(size=(cases, 4, 3)),
        rng.normal(size=(cases, 5)),
    )
    sizes = ((cases, 2, 3), (cases, 4, 5), (cases, 3))
    return kc.Uses(inputs), kc.Uses(tuple(rng.normal(size=size) for size in sizes))


def bilinear(**options):
    return kc.blocks.BilinearKFACFB(2, 3, 2, True, True, **options)


def draw_bilinear(rng, cases):
    pair = kc.Pair(rng.normal(size=(cases, 2)), rng.normal(size=(cases, 3)))
    return pair, rng.normal(size=(cases, 2))


LAYERS = {
    **{f"tied-{name}": (tied(name), draw_tied) for name in POOLINGS},
    "bilinear": (bilinear, draw_bilinear),
}
VECTORS = {"tied": ((5, 3), (5,)), "bilinear": ((2, 3, 2), (2,))}
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def each(function, data):
    """Map over the arrays of uses, pairs and tuples."""
    if isinstance(data, kc.Uses):
        return kc.Uses(tuple(map(function, data.arrays)))
    if isinstance(data, kc.Pair):
        return kc.Pair(*map(function, data))
    return function(data)


def chosen(data, places):
    return tuple(each(lambda x: x[places], part) for part in data)


def beside(weights, x):
    return np.reshape(weights, (len(weights), *(1,) * (x.ndim - 1)))


def poisoned(data):
    """Return data with NaN in all that weighs nothing."""

    def poison(x):
        return np.where(beside(MASK, x) > 0, x, np.nan) if x.dtype.kind == "f" else x

    return tuple(each(poison, part) for part in data)


def found(library, name, *batches, **options):
    """Return the dense block, and products with its damped powers."""
    make, _ = LAYERS[name]
    block = make(matpowers=(-1,), cholesky=True, cholesky_inverse=True, **options)
    state = block.init(library.asarray(np.zeros(1)))
    for data, counts in batches:
        arrays = [each(library.asarray, part) for part in data]
        state = block.update_covs(state, *arrays, ema_decay=0.5, **counts)
    state = block.update_inverses(state, 0.3)
    rng = np.random.default_rng(0)
    shapes = VECTORS[name.split("-")[0]]
    vector = tuple(library.asarray(rng.normal(size=shape)) for shape in shapes)
    products = (
        *block.multiply_inverse(state, vector),
        *block.multiply(state, vector),
        *block.multiply_cholesky(state, vector),
        *block.multiply_cholesky_inverse(state, vector, True),
    )
    return [
        library.to_numpy(x) for x in (block.full_fisher_block(state), *products)
    ], block.inverse_error(state, 0.3)


def assert_equal(actual, expected):
    (arrays, error), (others, _) = actual, expected
    for one, other in zip(arrays, others, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
    assert float(error) < 1e-9


@pytest.mark.parametrize("name", LAYERS)
def test_rows_of_weight_zero_count_as_if_they_were_dropped(library, name, rng):
    data = LAYERS[name][1](rng, len(MASK))
    kept = chosen(data, MASK > 0)
    assert_equal(
        found(library, name, (poisoned(data), {"weights": library.asarray(MASK)})),
        found(library, name, (kept, {"num_cases": len(MASK)})),
    )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", ["pi", "off", "constant"])
def test_a_stream_is_the_same_with_rows_dropped(name, kind, rng):
    masked, dropped = [], []
    for weights in (MASK, 1 - MASK, np.eye(6)[0]):
        data = LAYERS[name][1](rng, len(weights))
        masked.append((data, {"weights": weights}))
        dropped.append((chosen(data, weights > 0), {"num_cases": len(weights)}))
    way = {"damping_type": kind}
    assert_equal(
        found(NumPy, name, *masked, **way), found(NumPy, name, *dropped, **way)
    )


@pytest.mark.parametrize("name", LAYERS)
def test_the_block_is_that_of_the_rows_that_count(name, rng):
    data = LAYERS[name][1](rng, len(MASK))
    (dense, *_), _ = found(NumPy, name, (data, {"weights": MASK}))
    (kept, *_), _ = found(NumPy, name, (chosen(data, MASK > 0), {}))
    np.testing.assert_allclose(dense, kept * MASK.mean(), **CLOSE)
    # So would statistics that were divided by the mean weight once too seldom not be.
    assert not np.allclose(dense, kept * MASK.mean() ** 2)


@pytest.mark.parametrize("name", LAYERS)
def test_a_row_of_weight_two_counts_as_two_rows(name, rng):
    data = LAYERS[name][1](rng, len(TIMES))
    repeated = chosen(data, np.repeat(np.arange(len(TIMES)), TIMES.astype(int)))
    weighted = found(NumPy, name, (data, {"weights": TIMES}))
    assert_equal(weighted, found(NumPy, name, (repeated, {"num_cases": len(TIMES)})))
    # Gradients that carry the roots count once.
    carried = each(lambda g: g * beside(ROOTS, g), data[1])
    sides = kc.RowWeights(TIMES, (TIMES > 0).astype(float))
    once = found(NumPy, name, ((data[0], carried), {"weights": sides}))
    assert_equal(once, weighted)


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_of_weight_zero_is_a_batch(name, rng):
    data = LAYERS[name][1](rng, 4)
    (dense, *_), _ = found(NumPy, name, (data, {"weights": np.zeros(4)}))
    assert not dense.any()
    some = found(NumPy, name, (data, {}), (data, {"weights": np.zeros(4)}))
    (full, *_), _ = found(NumPy, name, (data, {}))
    np.testing.assert_allclose(some[0][0], full / 3, **CLOSE)


@pytest.mark.parametrize("name", ["tied-marginal", "bilinear"])
def test_weights_and_cases_are_traced(name, rng):
    jax = pytest.importorskip("jax")
    make, draw = LAYERS[name]
    block = make()
    inputs, g = (each(jax.numpy.asarray, part) for part in draw(rng, len(MASK)))
    traces = 0

    def fold(state, inputs, g, weights, cases):
        nonlocal traces
        traces += 1
        return block.update_covs(
            state, inputs, g, 0.5, weights=weights, num_cases=cases
        )

    compiled = jax.jit(fold)
    state = block.init(jax.numpy.zeros(1))
    for weights, cases in ((MASK, 6.0), (MASK / 2, 20.0)):
        given = (state, inputs, g, jax.numpy.asarray(weights), cases)
        eager, traced = fold(*given), compiled(*given)
        assert bool(traced.ok)
        for one, other in zip(*map(jax.tree.leaves, (traced, eager)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        state = traced
    assert traces == 3  # two of them eager
    bad = compiled(state, inputs, g, jax.numpy.asarray(MASK) * float("nan"), 6.0)
    assert not bool(bad.ok)
    for one, other in zip(bad.parts[0][:3], state.parts[0][:3], strict=True):
        pairs = zip(*map(jax.tree.leaves, (one, other)), strict=True)
        for a, b in list(pairs)[:2]:
            np.testing.assert_array_equal(a, b)


def test_each_use_can_have_weights_of_its_own_positions(library, rng):
    """Positions that weigh nothing are those that are not there."""
    rows, positions = rng.normal(size=(6, 3)), np.asarray([[1.0, 1, 0], [1, 1, 0]] * 3)
    h, ids = rng.normal(size=(6, 3, 3)), rng.integers(0, 5, 6)
    z = rng.normal(size=(6, 3, 5))
    block = kc.blocks.TiedWeightsKFACFB(
        5, 3, ("embedding", "transposed"), has_bias=True
    )

    def dense(h, z, cases, *at):
        given = [kc.Uses(tuple(map(library.asarray, x))) for x in ((ids, h), (rows, z))]
        options = {}
        if at:
            options["weights"] = kc.Uses(tuple(map(library.asarray, (cases, *at))))
        state = block.init(library.asarray(h))
        state = block.update_covs(state, *given, ema_decay=0.0, **options)
        return library.to_numpy(block.full_fisher_block(state))

    hidden = np.where(positions[:, :, None] > 0, z, np.nan)
    weighted = dense(h, hidden, np.ones(6), positions)
    np.testing.assert_allclose(weighted, dense(h[:, :2], z[:, :2], None), **CLOSE)


def test_weights_that_fit_no_use_are_refused(rng):
    block = tied("marginal")(name="layer7")
    data = draw_tied(rng, 4)
    for bad in (
        np.ones(3),
        np.ones((4, 2)),
        kc.Uses((np.ones(4),)),
        kc.Uses((np.ones(4), np.ones((4, 3)), np.ones(4))),
        (np.ones(4), np.ones(4)),
    ):
        with pytest.raises(kc.errors.ShapeError, match=r"layer7.*weights"):
            block.update_covs(block.init(data[1].arrays[0]), *data, 0.0, weights=bad)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_weighs_input_locations(library, groups, rng):
    x, g = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 6, 2))
    w = rng.integers(0, 3, (6, 3)).astype(float)
    shape = (2, 2, 2 // groups)
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry(shape, num_groups=groups, padding="VALID", strides=2)
    )
    hidden = np.where(w[:, :, None] > 0, x, np.nan)
    state = block.init(library.asarray(x))
    given = (library.asarray(hidden), library.asarray(g))
    state = block.update_covs(state, *given, 0.0, weights=library.asarray(w))
    found = library.to_numpy(block.full_fisher_block(state))
    roots, expected = np.sqrt(w)[:, :, None], np.zeros((2, 2, 2, 2, 2, 2))
    patches = g.reshape(6, 3, 2, 2)  # kernel and stride are equal
    for group in range(groups):
        own = slice(group, group + 1) if groups == 2 else slice(None)
        a = moment(x[:, :, own] * roots)
        q = patches[:, :, :, own].reshape(6, 3, -1)
        q = moment(q * roots).reshape(2, q.shape[2] // 2, 2, q.shape[2] // 2)
        part = np.einsum("ij,kolp->kioljp", a, q) * 3 / w.mean()
        if groups == 2:
            expected[:, group, :1, :, group, :1] = part[:, 0, :, :, 0, :]
        else:
            expected = part
    if groups == 2:
        expected = expected[:, :, :1, :, :, :1]
    size = int(np.sqrt(expected.size))
    np.testing.assert_allclose(found, expected.reshape(size, size), **CLOSE)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_transposed_convolution_weighs_output_locations(library, mirrored, rng):
    x, g = rng.normal(size=(6, 3, 1)), rng.normal(size=(6, 4, 2))
    w = rng.integers(0, 3, (6, 4)).astype(float)
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 1, 2), padding="VALID"),
        has_bias=True,
        locations="output",
        mirrored=mirrored,
    )
    state = block.init(library.asarray(x))
    given = (library.asarray(x), library.asarray(g))
    state = block.update_covs(state, *given, 0.0, weights=library.asarray(w))
    wide = np.pad(x[:, :, 0], ((0, 0), (1, 1)))
    p = np.stack([wide[:, 1:], wide[:, :-1]], axis=2)  # y_t = x_t w_0 + x_(t-1) w_1
    if mirrored:
        p = p[:, :, ::-1]
    roots = np.sqrt(w)[:, :, None]
    p = np.concatenate([p, np.ones((6, 4, 1))], axis=2)
    expected = np.kron(moment(p * roots), moment(g * roots)) * 4 / w.mean()
    np.testing.assert_allclose(
        library.to_numpy(block.full_fisher_block(state)), expected, **CLOSE
    )


def test_the_bias_sees_no_input_locations(rng):
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 1, 1), padding="VALID", strides=2),
        has_bias=True,
        name="layer7",
    )
    x, g = rng.normal(size=(4, 3, 1)), rng.normal(size=(4, 6, 1))
    with pytest.raises(kc.errors.ShapeError, match=r"layer7.*bias.*\[batch\]"):
        block.update_covs(block.init(x), x, g, 0.0, weights=np.ones((4, 3)))


def test_each_use_of_a_bias_can_have_weights(library, rng):
    first, second = rng.normal(size=(2, 4, 3, 2))
    w, v = np.asarray([1.0, 0, 1, 2]), np.asarray([0.0, 0, 1, 2])
    hidden = np.where(beside(v, second) > 0, second, np.nan)
    block = kc.blocks.BiasFullFB((2,))
    g = kc.Uses((library.asarray(first), library.asarray(hidden)))
    weights = kc.Uses((library.asarray(w), library.asarray(v)))
    state = block.init(library.asarray(first))
    state = block.update_covs(state, g, 0.0, weights=weights)
    roots = (beside(np.sqrt(x), first) for x in (w, v))
    summed = sum(r * x for r, x in zip(roots, (first, second), strict=True)).sum(1)
    found = library.to_numpy(block.full_fisher_block(state))
    np.testing.assert_allclose(found, summed.T @ summed / 4, **CLOSE)
