"""Functions of all layers are those of one dense block-diagonal matrix."""

import numpy as np
import pytest
from estimator_cases import CASES, CATEGORICAL, draw
from scipy.sparse.linalg import eigsh

import kfac_core as kc
from kfac_core.errors import (
    ArgumentError,
    NotPositiveDefiniteError,
    ShapeError,
    StateError,
)
from kfac_core.estimator import FisherEstimator
from kfac_core.spectral import SpectralBlock, SpectralMatrix


@pytest.fixture
def case():
    return CASES["convolutional"]


@pytest.fixture
def drawn(case, rng):
    return draw(case, rng)


@pytest.fixture
def estimator(case):
    return FisherEstimator(
        case.model.layer_collection(CATEGORICAL), estimation_mode="exact"
    )


@pytest.fixture
def state(case, estimator, drawn):
    linearization = case.model.linearize(drawn.params, drawn.batch)
    return estimator.update_covs(estimator.init(drawn.params), linearization, 0.0)


@pytest.fixture
def posterior(estimator):
    return SpectralMatrix(estimator)


@pytest.fixture
def spectrum(posterior, state):
    return posterior.decompose(state)


@pytest.fixture
def blocks(estimator, state):
    """Return the dense block of each layer, and the names of its parameters."""
    return [
        (layer.params, layer.block.full_fisher_block(state.blocks[layer.name]))
        for layer in estimator.layers
    ]


def by_block(blocks, vectors):
    for params, dense in blocks:
        yield dense, np.concatenate([vectors[name].reshape(-1) for name in params])


def test_sums(posterior, spectrum, blocks):
    damped = [7 * dense + 0.3 * np.eye(len(dense)) for _, dense in blocks]
    np.testing.assert_allclose(
        posterior.logdet(spectrum, 0.3, 7.0),
        sum(np.linalg.slogdet(block)[1] for block in damped),
        rtol=1e-11,
    )
    np.testing.assert_allclose(
        posterior.trace(spectrum), sum(np.trace(x) for _, x in blocks), rtol=1e-11
    )
    np.testing.assert_allclose(
        posterior.frobenius_norm(spectrum),
        np.sqrt(sum((x**2).sum() for _, x in blocks)),
        rtol=1e-11,
    )


def test_each_layer_may_have_its_own_damping(posterior, spectrum, blocks, estimator):
    own = {layer.name: 0.1 + i for i, layer in enumerate(estimator.layers)}
    expected = sum(
        np.linalg.slogdet(dense + damping * np.eye(len(dense)))[1]
        for (_, dense), damping in zip(blocks, own.values(), strict=True)
    )
    np.testing.assert_allclose(posterior.logdet(spectrum, own), expected, rtol=1e-11)


def test_products_and_diagonals(posterior, spectrum, blocks, drawn):
    product = posterior.multiply_matpower(spectrum, drawn.params, -1, 0.3)
    variances = posterior.diagonal(spectrum, drawn.params, -1, 0.3)
    vectors = by_block(blocks, drawn.params)
    products, found = by_block(blocks, product), by_block(blocks, variances)
    for (dense, v), (_, x), (_, d) in zip(vectors, products, found, strict=True):
        inverse = np.linalg.inv(dense + 0.3 * np.eye(len(dense)))
        np.testing.assert_allclose(x, inverse @ v, rtol=0, atol=1e-10 * np.abs(x).max())
        np.testing.assert_allclose(d, np.diag(inverse), rtol=1e-10)


def test_the_variance_of_linearized_outputs(posterior, spectrum, blocks, drawn, rng):
    rows = {name: rng.normal(size=(4, *x.shape)) for name, x in drawn.params.items()}
    expected = 0
    for params, dense in blocks:
        v = np.concatenate([rows[name].reshape(4, -1) for name in params], axis=1)
        expected = expected + v @ np.linalg.inv(dense + 0.3 * np.eye(len(dense))) @ v.T
    found = posterior.inner_products(spectrum, rows, -1, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_forms_and_variances_are_those_of_the_inner_products(
    posterior, spectrum, drawn, rng
):
    rows = {name: rng.normal(size=(4, *x.shape)) for name, x in drawn.params.items()}
    products = posterior.inner_products(spectrum, rows, -1, 0.3)
    forms = posterior.quadratic_forms(spectrum, rows, -1, 0.3)
    np.testing.assert_allclose(forms, np.diag(products), rtol=1e-12)
    pairs = {name: x.reshape(2, 2, *x.shape[1:]) for name, x in rows.items()}
    variances = posterior.functional_variance(spectrum, pairs, 0.3)
    expected = np.stack([products[:2, :2], products[2:, 2:]])
    np.testing.assert_allclose(variances, expected, rtol=1e-12)


def test_the_operator_of_scipy_has_the_order_of_the_variables(
    posterior, spectrum, drawn, estimator
):
    shuffled = dict(reversed(drawn.params.items()))
    own = {layer.name: 0.1 + i for i, layer in enumerate(estimator.layers)}
    operator = posterior.as_linear_operator(spectrum, shuffled, -1, own)

    def joined(vectors):
        return np.concatenate([vectors[n].reshape(-1) for n in estimator.variables])

    product = posterior.multiply_matpower(spectrum, drawn.params, -1, own)
    found = operator @ joined(drawn.params)
    np.testing.assert_allclose(found, joined(product), rtol=1e-12)
    eigenvalues = np.concatenate([*posterior.eigenvalues(spectrum).values()])
    (largest,) = eigsh(
        posterior.as_linear_operator(spectrum, drawn.params, function=np.sqrt),
        1,
        return_eigenvectors=False,
    )
    np.testing.assert_allclose(largest, np.sqrt(eigenvalues.max()), rtol=1e-11)


def test_samples_have_the_form_of_the_parameters(posterior, spectrum, drawn):
    first, again, other = (
        posterior.sample(spectrum, np.random.default_rng(seed), drawn.params, -1, 0.3)
        for seed in (0, 0, 1)
    )
    for name, x in drawn.params.items():
        assert first[name].shape == x.shape
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_float32_parameters_get_float32(posterior, spectrum, drawn):
    params = {name: x.astype(np.float32) for name, x in drawn.params.items()}
    found = posterior.sample(spectrum, np.random.default_rng(0), params, -1, 0.3)
    assert {x.dtype for x in found.values()} == {np.dtype(np.float32)}


def test_a_singular_matrix_has_no_determinant_and_no_inverse(
    posterior, spectrum, drawn
):
    with pytest.raises(NotPositiveDefiniteError, match="give a damping above"):
        posterior.logdet(spectrum)
    with pytest.raises(NotPositiveDefiniteError, match="dense_2"):
        posterior.sample(spectrum, np.random.default_rng(0), drawn.params)
    whole = posterior.multiply_matpower(spectrum, drawn.params, 1)
    assert all(np.isfinite(x).all() for x in whole.values())


def test_what_cannot_be_is_refused_by_name(
    posterior, spectrum, drawn, estimator, state
):
    with pytest.raises(ArgumentError, match="expected a FisherEstimator"):
        SpectralMatrix(estimator.layers[0].block)
    with pytest.raises(ArgumentError, match="expected a FisherBlock"):
        SpectralBlock(estimator)
    with pytest.raises(StateError, match="what decompose returned"):
        posterior.logdet(state, 0.3)
    with pytest.raises(StateError, match="what decompose returned"):
        posterior.layers[estimator.layers[0].name].logdet(state.blocks, 0.3)
    for damping in (-1.0, np.nan, "much"):
        with pytest.raises((ArgumentError, TypeError), match="damping"):
            posterior.logdet(spectrum, damping)
    with pytest.raises(ArgumentError, match="key"):
        posterior.sample(spectrum, 3, drawn.params, -1, 0.3)
    few = dict(drawn.params)
    few.popitem()
    with pytest.raises(ArgumentError):
        posterior.multiply_matpower(spectrum, few, -1, 0.3)
    wrong = {name: x[..., :1] for name, x in drawn.params.items()}
    with pytest.raises(ShapeError):
        posterior.multiply_matpower(spectrum, wrong, -1, 0.3)


def test_slices_of_a_parameter_are_layers_of_one_matrix(rng):
    """Two layers of one parameter: vectors and results are of the whole."""
    layers = kc.LayerCollection.of({"w": (3, 4)}).define_parts("w", (2, 2), axis=1)
    for part in layers.parts:
        layers = layers.register_fully_connected(part.name, f"at {part.name}")
    layers = layers.register_squared_error_loss("outputs")
    estimator = FisherEstimator(layers, "exact")
    params = {"w": rng.normal(size=(3, 4))}
    state, blocks = estimator.init(params), {}
    for layer in estimator.layers:
        data = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
        own = state.blocks[layer.name]
        blocks[layer.name] = layer.block.update_covs(own, *data, ema_decay=0.0)
    posterior = SpectralMatrix(estimator)
    spectrum = posterior.decompose(state._replace(blocks=blocks))
    dense = [
        layer.block.full_fisher_block(blocks[layer.name]) for layer in estimator.layers
    ]
    inverses = [np.linalg.inv(block + 0.3 * np.eye(6)) for block in dense]
    halves = np.split(params["w"], 2, axis=1)
    pairs = list(zip(inverses, halves, strict=True))
    products = [(m @ v.reshape(-1)).reshape(3, 2) for m, v in pairs]
    found = posterior.multiply_matpower(spectrum, params, -1, 0.3)["w"]
    np.testing.assert_allclose(found, np.concatenate(products, axis=1), rtol=1e-10)
    stack = {"w": params["w"][None]}
    expected = sum(v.reshape(-1) @ m @ v.reshape(-1) for m, v in pairs)
    found = posterior.inner_products(spectrum, stack, -1, 0.3)
    np.testing.assert_allclose(found, [[expected]], rtol=1e-10)
