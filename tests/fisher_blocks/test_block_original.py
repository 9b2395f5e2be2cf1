"""The original's own numeric cases for blocks, and numbers recorded from it."""

import numpy as np
import pytest

import kfac_core as kc

AS_THEN = {"zero_debias": False, "init_covariances_at_zero": False}
RECORDED = {"rtol": 1e-5, "atol": 2e-6}  # six decimals, dampings in float32


@pytest.fixture
def library(plain_library):
    return plain_library


def array(library, x):
    return library.asarray(np.asarray(x, dtype=float))


def fold(library, block, *data, decay=0.0, **options):
    state = block.init(array(library, 0.0))
    return block.update_covs(state, *data, ema_decay=decay, **options)


def inverse(library, block, state, damping, *vector):
    """Return the inverse's product with tensors, as NumPy arrays."""
    state = block.update_inverses(state, damping)
    found = block.multiply_inverse(state, tuple(array(library, v) for v in vector))
    return [library.to_numpy(x) for x in found]


def average(library, cov):
    average = kc.factors.FullyConnectedKroneckerFactor(1).init(array(library, 0.0)).cov
    return average._replace(total=array(library, cov), weight=array(library, 1.0))


def with_covs(library, block, a, g, c=1.0):
    """Return a state whose factors are `a` and `g`."""
    state = block.init(array(library, 0.0))
    return state._replace(
        input_factor=state.input_factor._replace(cov=average(library, a)),
        output_factor=state.output_factor._replace(cov=average(library, g)),
        uses=average(library, c),
    )


def test_t22_full_block_of_the_identity(library):
    block = kc.blocks.NaiveFullFB(5, **AS_THEN)
    state = block.init(array(library, 0.0))
    found = inverse(library, block, state, 0.5, [[2.0, 2]], [2.0, 2, 2])
    for tensor in found:
        np.testing.assert_allclose(tensor, 4 / 3, rtol=1e-14)


@pytest.mark.parametrize("make", [kc.blocks.NaiveFullFB, kc.blocks.NaiveDiagonalFB])
def test_t23_naive_blocks_equal_the_dense_solve(library, make, rng):
    block = make(3)
    gradient = array(library, [1.0, -2.0, 3.0])
    state = fold(library, block, gradient, batch_size=2)
    (found,) = inverse(library, block, state, 0.5, [4.0, 5, 6])
    dense = library.to_numpy(block.full_fisher_block(state)) + 0.5 * np.eye(3)
    np.testing.assert_allclose(found, np.linalg.solve(dense, [4, 5, 6]), rtol=1e-12)


def test_t25_embedding_block_equals_the_dense_solve(library, rng):
    block = kc.blocks.EmbeddingKFACFB(5, 2)
    ids = library.asarray(np.asarray([[0, 1], [1, 2], [2, 3]]))
    g = array(library, rng.normal(size=(3, 2)))
    state = fold(library, block, ids, g)
    start = average(library, np.ones(5))
    state = state._replace(input_factor=state.input_factor._replace(cov=start))
    rows = np.zeros((5, 2))
    rows[[1, 3, 4]] = rng.normal(size=(3, 2))
    (found,) = inverse(library, block, state, 0.0, rows)
    dense = library.to_numpy(block.full_fisher_block(state))
    np.testing.assert_allclose(
        found.ravel(), np.linalg.solve(dense, rows.ravel()), rtol=1e-10
    )


def test_t26_dense_block_of_identities(library):
    weights, bias = [[2.0, 3], [4, 5]], [1.0, 2]
    expected = [[0.686291, 1.029437], [1.372583, 1.715729]]
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2, **AS_THEN)
    state = block.init(array(library, 0.0))
    (found,) = inverse(library, block, state, 0.5, weights)
    np.testing.assert_allclose(found, expected, **RECORDED)
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2, True, **AS_THEN)
    state = block.init(array(library, 0.0))
    found = inverse(library, block, state, 0.5, weights, bias)
    np.testing.assert_allclose(found[0], expected, **RECORDED)
    np.testing.assert_allclose(found[1], [0.343146, 0.686291], **RECORDED)


@pytest.mark.parametrize("c", [1, 4])
def test_t27_undamped_blocks_equal_the_dense_solve(library, c):
    a, g = (np.ones((n, n)) + np.diag(np.arange(1.0, n + 1)) for n in (5, 3))
    if c == 1:
        block = kc.blocks.FullyConnectedKFACBasicFB(5, 3)
    else:
        block = kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry((5, 1, 3), padding="VALID")
        )
    state = with_covs(library, block, a, g, c)
    vector = np.arange(15.0)
    shape = (5, 3) if c == 1 else (5, 1, 3)
    (found,) = inverse(library, block, state, 0.0, vector.reshape(shape))
    expected = np.linalg.solve(c * np.kron(a, g), vector)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-11, atol=1e-12)


def test_t28_conv_block_of_identities(library):
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 2, 2), padding="SAME")
    )
    state = with_covs(library, block, np.eye(8), np.eye(2), 4.0)
    vector = np.arange(1.0, 17.0).reshape(2, 2, 2, 2)
    (found,) = inverse(library, block, state, 0.5, vector)
    first = found.reshape(8, 2)[0]
    np.testing.assert_allclose(first, [0.136455, 0.27291], **RECORDED)


X = [[1.0, 2], [3, 4], [5, 6]]
G = [[1.0, 0], [0, 1], [1, 1]]
VECTOR = ([[1.0, 2], [3, 4]], [5.0, 6])


def test_g1_dense_block(library):
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2, True)
    state = fold(library, block, array(library, X), array(library, G))
    weights, bias = inverse(library, block, state, 0.1, *VECTOR)
    expected = [[-0.683933, -0.416954], [0.118552, -0.222668]]
    np.testing.assert_allclose(weights, expected, **RECORDED)
    np.testing.assert_allclose(bias, [2.42518, 3.750387], **RECORDED)
    state = block.update_inverses(state, 0.1)
    product = block.multiply(state, tuple(array(library, v) for v in VECTOR))
    weights, bias = map(library.to_numpy, product)
    expected = [[87.859142, 100.497686], [114.827011, 130.77137]]
    np.testing.assert_allclose(weights, expected, **RECORDED)
    np.testing.assert_allclose(bias, [31.440087, 35.263124], **RECORDED)


def test_g2_dense_diagonal_block(library):
    block = kc.blocks.FullyConnectedDiagonalFB(2, 2, True)
    state = fold(library, block, array(library, X), array(library, G))
    cov = library.to_numpy(block.factor.get_cov_var(state.factor))
    expected = np.asarray([[26, 34], [40, 52], [2, 2]]) / 3
    np.testing.assert_allclose(cov, expected, rtol=1e-14)
    weights, bias = inverse(library, block, state, 0.1, *VECTOR)
    expected = [[0.114068, 0.174927], [0.223325, 0.229446]]
    np.testing.assert_allclose(weights, expected, **RECORDED)
    np.testing.assert_allclose(bias, [6.521739, 7.826087], **RECORDED)


IMAGE = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)
SMALL = np.asarray([-1.0, 0, 1, 2]).reshape(1, 2, 2, 1)
G3 = {
    "valid": (
        (2, "VALID", 2, SMALL),
        [53, 66, 117, 138, 1],
        [0.017076, 0.01035, -0.009829, -0.016555],
        0.122306,
    ),
    "same-stride": (
        (3, "SAME", 2, SMALL),
        [53, 66, 32.5, 117, 138, 68.5, 50.5, 61, 30.25, 1],
        np.asarray(
            [
                [0.027534, 0.016928, 0.021148],
                [-0.014888, -0.025494, -0.013567],
                [0.005318, -0.00168, 0.007934],
            ]
        ).ravel(),
        0.131104,
    ),
    "same": (
        (3, "SAME", 1, np.arange(-1.0, 15.0).reshape(1, 4, 4, 1)),
        [26.625, 40.625, 33.9375, 63.5, 93.5, 76.25, 62.625, 91.625, 74.4375, 1],
        None,
        0.009312,
    ),
}


@pytest.mark.parametrize("name", G3)
def test_g3_conv_block(library, name):
    (k, padding, stride, g), diagonal, weights, bias = G3[name]
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((k, k, 1, 1), padding=padding, strides=stride),
        has_bias=True,
    )
    state = fold(library, block, array(library, IMAGE), array(library, g))
    a = library.to_numpy(block.input_factor.get_cov(state.input_factor))
    np.testing.assert_allclose(a.diagonal(), diagonal, rtol=1e-14)
    assert float(state.uses.total / state.uses.weight) == g.size
    found = inverse(library, block, state, 0.5, np.ones((k, k, 1, 1)), [2.0])
    np.testing.assert_allclose(found[1], [bias], **RECORDED)
    if weights is not None:
        np.testing.assert_allclose(found[0].ravel(), weights, **RECORDED)


def test_g4_conv_diagonal_block(library):
    block = kc.blocks.ConvDiagonalFB(
        kc.ConvolutionGeometry((2, 2, 1, 1), padding="VALID", strides=2), has_bias=True
    )
    state = fold(library, block, array(library, IMAGE), array(library, SMALL))
    dense = library.to_numpy(block.full_fisher_block(state))
    assert dense.diagonal().tolist() == [900, 1024, 1444, 1600, 4]
    found = inverse(library, block, state, 0.5, np.ones((2, 2, 1, 1)), [2.0])
    expected = [0.00111, 0.000976, 0.000692, 0.000625]
    np.testing.assert_allclose(found[0].ravel(), expected, atol=1e-6)
    np.testing.assert_allclose(found[1], [0.444444], **RECORDED)


def test_g7_embedding_block(library):
    block = kc.blocks.EmbeddingKFACFB(5, 2)
    ids = library.asarray(np.asarray([0, 2, 2, 3]))
    g = array(library, [[1, 0], [0, 1], [1, 1], [2, 0]])
    state = fold(library, block, ids, g)
    (found,) = inverse(library, block, state, 0.2, np.arange(10.0).reshape(5, 2))
    expected = [
        [-0.150659, 1.506591],
        [3.050848, 9.491527],
        [1.840194, 4.455206],
        [4.369115, 9.642185],
        [13.220342, 27.796614],
    ]
    np.testing.assert_allclose(found, expected, **RECORDED)
