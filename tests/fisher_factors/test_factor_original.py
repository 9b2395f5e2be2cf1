"""The numeric cases of the original's own suite for factors, re-expressed."""

import numpy as np
import pytest

import kfac_core as kc

# Initialised at the identity, without debiasing: the original's defaults then.
AS_THEN = {"zero_debias": False, "init_covariances_at_zero": False}
ROWS = np.asarray([[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture
def library(plain_library):
    return plain_library


def cov_after(library, spec, *data, ema_decay, **options):
    state = spec.init(library.asarray(np.zeros(1)))
    arrays = tuple(map(library.asarray, data))
    state = spec.update_cov(state, *arrays, ema_decay=ema_decay, **options)
    return library.to_numpy(spec.get_cov_var(state))


def test_t3_rows(library):
    spec = kc.factors.FullyConnectedKroneckerFactor(2, **AS_THEN)
    found = cov_after(library, spec, ROWS, ema_decay=0.5)
    assert found.tolist() == [[3, 3.5], [3.5, 5.5]]


def test_t4_rows_with_bias(library):
    spec = kc.factors.FullyConnectedKroneckerFactor(2, True, **AS_THEN)
    found = cov_after(library, spec, ROWS, ema_decay=0.5)
    assert found.tolist() == [[3, 3.5, 1], [3.5, 5.5, 1.5], [1, 1.5, 1]]


def test_t5_full(library):
    spec = kc.factors.NaiveFullFactor(2, **AS_THEN)
    gradient = np.asarray([1.0, 2.0])
    found = cov_after(library, spec, gradient, ema_decay=0.5, batch_size=2)
    assert found.tolist() == [[0.75, 0.5], [0.5, 1.5]]
    spec = kc.factors.NaiveFullFactor(6)
    found = cov_after(library, spec, np.ones((2, 3)), ema_decay=0.5, batch_size=2)
    assert found.shape == (6, 6)


def test_t6_naive_diagonal(library):
    spec = kc.factors.NaiveDiagonalFactor(2, **AS_THEN)
    gradient = np.asarray([1.0, 2.0])
    found = cov_after(library, spec, gradient, ema_decay=0.5, batch_size=2)
    assert found.tolist() == [[0.75], [1.5]]


def test_t7_ids(library):
    spec = kc.factors.EmbeddingInputKroneckerFactor(5)
    found = cov_after(library, spec, np.asarray([[0], [1], [4]]), ema_decay=0.0)
    np.testing.assert_allclose(found * 3, [1, 1, 0, 0, 1], rtol=1e-15)


@pytest.mark.parametrize("has_bias", [False, True])
def test_t8_conv_diagonal_at_one_location(library, rng, has_bias):
    spec = kc.factors.ConvDiagonalFactor(
        kc.ConvolutionGeometry((3, 3, 3, 2), padding="VALID"), has_bias=has_bias
    )
    image, gradient = rng.normal(size=(1, 3, 3, 3)), rng.normal(size=(1, 1, 1, 2))
    patch = np.append(image.ravel(), [1.0] * has_bias)
    found = cov_after(library, spec, image, gradient, ema_decay=0.0)
    np.testing.assert_allclose(
        found, np.outer(patch, gradient.ravel()) ** 2, rtol=1e-13
    )


@pytest.mark.parametrize(
    ("has_bias", "expected"), [(False, [[2.5]]), (True, [[2.5, 1.5], [1.5, 1]])]
)
def test_t9_conv_input_of_one_tap(library, has_bias, expected):
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry((1, 1, 1, 1), padding="SAME"), has_bias=has_bias
    )
    images = np.asarray([1.0, 2.0]).reshape(2, 1, 1, 1)
    assert cov_after(library, spec, images, ema_decay=0.0).tolist() == expected


@pytest.mark.parametrize(
    ("shape", "arguments", "rank"),
    [
        pytest.param((3, 3, 3, 27), ((3, 3, 3, 27, 1), "SAME", (2, 2, 2)), 8, id="t10"),
        pytest.param((3, 3, 9), ((1, 1, 9, 1), "SAME"), 9, id="t11"),
        pytest.param((3, 3, 9), ((1, 1, 9, 1), "VALID", (2, 1)), 6, id="t12"),
        pytest.param((3, 3, 2), ((3, 3, 2, 1), "SAME", (1, 1), (3, 3)), 2, id="t13"),
    ],
)
def test_conv_input_has_the_rank_of_its_locations(rng, shape, arguments, rank):
    # Large for the slower libraries; that these agree is tested elsewhere.
    names = ("filter_shape", "padding", "strides", "dilations")
    geometry = kc.ConvolutionGeometry(**dict(zip(names, arguments, strict=False)))
    spec = kc.factors.ConvInputKroneckerFactor(geometry)
    images = rng.normal(size=(1, *shape))
    state = spec.update_cov(spec.init(images), images, ema_decay=0.0)
    assert np.linalg.matrix_rank(spec.get_cov(state)) == rank


def test_t14_conv_output(library):
    spec = kc.factors.ConvOutputKroneckerFactor(2, **AS_THEN)
    gradients = np.arange(1.0, 17.0).reshape(2, 2, 2, 2)
    found = cov_after(library, spec, gradients, ema_decay=0.5)
    assert found.tolist() == [[43, 46.5], [46.5, 51.5]]


def test_t14_conv_output_in_3d_has_the_rank_of_its_positions(rng):
    spec = kc.factors.ConvOutputKroneckerFactor(12)
    gradients = rng.normal(size=(1, 2, 2, 2, 12))
    state = spec.update_cov(spec.init(gradients), gradients, ema_decay=0.0)
    assert np.linalg.matrix_rank(spec.get_cov(state)) == 8


def with_cov(library, spec, cov):
    """Return a state whose statistics are `cov`."""
    state = spec.init(library.asarray(np.zeros(1)))
    start = library.asarray(np.asarray(cov)), library.asarray(np.asarray(1.0))
    return state._replace(cov=state.cov._replace(total=start[0], weight=start[1]))


def test_t19_power_two(library):
    spec = kc.factors.FullyConnectedKroneckerFactor(2, matpowers=(2,))
    state = with_cov(library, spec, [[6.0, 2.0], [2.0, 4.0]])
    state = spec.update_inverses(state, 0.5)
    found = library.to_numpy(spec.get_matpower(state, 2).to_dense())
    assert found.tolist() == [[46.25, 22], [22, 24.25]]


def test_t20_inverse_without_damping(library):
    spec = kc.factors.FullyConnectedKroneckerFactor(2, matpowers=(-1,))
    state = with_cov(library, spec, [[5.0, 2.0], [2.0, 4.0]])
    assert library.to_numpy(state.derived.matpowers[0]).tolist() == [[0, 0], [0, 0]]
    state = spec.update_inverses(state, 0.0)
    found = library.to_numpy(spec.get_inverse(state).to_dense())
    np.testing.assert_allclose(found, [[0.25, -0.125], [-0.125, 0.3125]], rtol=1e-15)
