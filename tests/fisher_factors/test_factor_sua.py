"""Spatially uncorrelated activations: the matrix, its powers, where it is exact."""

import itertools

import numpy as np
import pytest
from factor_truth import mean_square, with_one

import kfac_core as kc
from kfac_core.contrib.fisher_factors.convolution import SUA_SPECS

NAME = "conv3"
SHAPE = (2, 2, 3, 4)  # four offsets of three channels
POWERS = (-2, -1, -0.5, 0.5, 2)
OPTIONS = [
    {"assume_zero_mean": zero, "subtract_mean": subtract, "averaged": averaged}
    for zero, subtract in ((False, True), (True, True), (True, False))
    for averaged in ("moments", "covariances")
]


def factor_of(data_format=None, averaged="moments", **options):
    geometry = kc.ConvolutionGeometry(SHAPE, padding="SAME", data_format=data_format)
    return SUA_SPECS[averaged](geometry, name=NAME, **options)


def draw(rng, n=4):
    mixed = rng.normal(size=(n, 3, 4, 3)) @ rng.normal(size=(3, 3))
    return mixed + rng.normal(size=3)


def folded(spec, batches, decay, dtype="float64"):
    state = spec.init(np.zeros(1, dtype))
    for x in batches:
        state = spec.update_cov(state, x.astype(dtype), decay)
    return state


def dense_of(batches, decay, has_bias, assume_zero_mean, subtract_mean, averaged):
    """Build the matrix block by block, from weighted means over batches."""
    weights = decay ** np.arange(len(batches))[::-1]

    def mean(samples):
        return np.average(list(samples), axis=0, weights=weights)

    rows = [x.reshape(-1, 3) for x in batches]
    mu = mean(x.mean(0) for x in rows)
    if averaged == "moments":
        sigma = mean(map(mean_square, rows)) - np.outer(mu, mu)
    else:
        sigma = mean(mean_square(x - x.mean(0)) for x in rows)
    if assume_zero_mean and not subtract_mean:
        sigma = mean(map(mean_square, rows))
    if assume_zero_mean:
        mu = mu * 0
    dense = np.zeros((12, 12))
    for p, q in itertools.product(range(4), repeat=2):
        block = sigma * (p == q) + np.outer(mu, mu)
        dense[3 * p : 3 * p + 3, 3 * q : 3 * q + 3] = block
    if not has_bias:
        return dense
    row = np.tile(mu, 4)
    return np.block([[dense, row[:, None]], [row[None, :], np.ones((1, 1))]])


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_matrix_and_powers_are_those_of_the_dense_one(options, has_bias, rng):
    spec = factor_of(has_bias=has_bias, matpowers=(1, *POWERS), **options)
    batches = [draw(rng), draw(rng, 2)]
    state = folded(spec, batches, 0.5)
    dense = dense_of(batches, 0.5, has_bias, **options)
    scale = np.abs(dense).max()
    found = spec.get_cov(state)
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-14 * scale)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(float(spec.trace(state)), np.trace(dense), rtol=1e-13)
    assert spec.dimension == len(dense)
    state = spec.update_inverses(state, 0.1)
    values, vectors = np.linalg.eigh(dense + 0.1 * np.eye(len(dense)))
    x = rng.normal(size=(len(dense), 2))
    for exp in (1, *POWERS):
        power = (vectors * values**exp) @ vectors.T
        bound = 1e-12 * np.abs(power).max()
        operator = spec.get_matpower(state, exp)
        whole = operator.to_dense()
        np.testing.assert_allclose(whole, power, rtol=0, atol=bound)
        product = spec.left_multiply_matpower(state, x, exp)
        np.testing.assert_allclose(product, power @ x, rtol=0, atol=20 * bound)
        product = spec.right_multiply_matpower(state, x[:, 0], exp)
        np.testing.assert_allclose(product, power @ x[:, 0], rtol=0, atol=20 * bound)
    eigen = spec.get_eigendecomp(state)
    np.testing.assert_allclose(eigen.values + 0.1, values, rtol=1e-12, atol=1e-13)


def test_in_float32_powers_are_off_by_the_condition(rng):
    spec = factor_of(has_bias=True, matpowers=(-1,))
    batches = [draw(rng, 8)]
    state = folded(spec, batches, 0.5, "float32")
    state = spec.update_inverses(state, 0.1)
    dense = dense_of(batches, 0.5, True, False, True, "moments") + 0.1 * np.eye(13)
    found = spec.get_inverse(state).to_dense()
    assert found.dtype == np.float32
    error = np.linalg.norm(found @ dense - np.eye(13), 2)
    assert error <= 16 * np.finfo(np.float32).eps * np.linalg.cond(dense)


def test_nothing_of_the_size_of_the_matrix_is_kept(rng):
    spec = kc.factors.ConvInputSUAKroneckerFactor(
        kc.ConvolutionGeometry((7, 7, 3, 4), padding="SAME"), matpowers=(-1, -0.5)
    )
    x = draw(rng)
    state = spec.update_inverses(spec.update_cov(spec.init(x), x, 0.0), 0.1)
    assert spec.dimension == 147
    assert max(leaf.size for leaf in (state.cov.total, *state.derived.matpowers)) <= 18
    v = rng.normal(size=(147, 2))
    inverse = spec.get_inverse(state)
    assert max(part.size for part in inverse) == 49
    damped = spec.get_cov(state) + 0.1 * np.eye(147)
    np.testing.assert_allclose(damped @ inverse.matmul(v), v, rtol=0, atol=1e-12)


# Where it is exact: pixels independent of one another, with one mean and covariance.


def sign_patterns(correlated):
    """Return all cases of three pixels of two channels, their signs enumerated."""
    mixing, mean = np.array([[1.0, 0.5], [0.0, 2.0]]), np.array([0.7, -0.3])
    cases = []
    for signs in itertools.product([-1.0, 1.0], repeat=6):
        pixels = np.array(signs).reshape(3, 2)
        if correlated:
            pixels[1] = pixels[0]
        cases.append(pixels @ mixing + mean)
    return np.array(cases)


def patch_and_sua(x, padding, **options):
    """Return the patches' second moment, and the approximation of it."""
    geometry = kc.ConvolutionGeometry((2, 2, 1), padding=padding)
    first = kc.factors.ConvInputKroneckerFactor(geometry, has_bias=True)
    second = kc.factors.ConvInputSUAKroneckerFactor(geometry, has_bias=True, **options)
    return [
        spec.get_cov(spec.update_cov(spec.init(x), x, 0.0)) for spec in (first, second)
    ]


@pytest.mark.parametrize("pixel_weights", ["all", "usage"])
def test_it_is_exact_where_pixels_are_uncorrelated(pixel_weights):
    patches, sua = patch_and_sua(
        sign_patterns(correlated=False), "VALID", pixel_weights=pixel_weights
    )
    np.testing.assert_allclose(sua, patches, rtol=0, atol=1e-13)


@pytest.mark.parametrize("pixel_weights", ["all", "usage"])
def test_it_is_not_where_they_are_correlated(pixel_weights):
    patches, sua = patch_and_sua(
        sign_patterns(correlated=True), "VALID", pixel_weights=pixel_weights
    )
    assert np.max(np.abs(sua - patches)) > 0.1


def test_it_is_not_with_a_padding_of_zeros_or_a_wrong_mean():
    x = sign_patterns(correlated=False)
    for padding, options in (("SAME", {}), ("VALID", {"assume_zero_mean": True})):
        patches, sua = patch_and_sua(x, padding, **options)
        assert np.max(np.abs(sua - patches)) > 0.1


GEOMETRIES = [
    {"padding": "SAME"},
    {"padding": "VALID", "strides": (2, 3)},
    {"padding": "SAME", "strides": (2, 1), "dilations": (1, 2)},
    {"padding": ((0, 2), (1, 0)), "strides": (3, 1)},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_weighted_by_usage_its_trace_and_mean_are_those_of_patches(geometry, rng):
    towers = tuple(rng.normal(size=(n, h, 5, 2)) + 1.0 for n, h in ((3, 6), (2, 4)))
    geometry = kc.ConvolutionGeometry((3, 2, 2, 1), **geometry)
    patches = kc.factors.ConvInputKroneckerFactor(geometry, has_bias=True)
    covs = {
        weights: kc.factors.ConvInputSUAKroneckerFactor(
            geometry, has_bias=True, pixel_weights=weights
        )
        for weights in ("usage", "all")
    }
    exact, usage, everywhere = (
        spec.get_cov(spec.update_cov(spec.init(towers[0]), towers, 0))
        for spec in (patches, covs["usage"], covs["all"])
    )
    np.testing.assert_allclose(np.trace(usage), np.trace(exact), rtol=1e-13)
    means = [cov[-1, :-1].reshape(6, 2).mean(0) for cov in (exact, usage, everywhere)]
    np.testing.assert_allclose(means[1], means[0], rtol=1e-13)
    assert abs(np.trace(everywhere) - np.trace(exact)) > 0.01 * np.trace(exact)
    assert np.max(np.abs(means[2] - means[0])) > 0.01


def test_channels_first_is_the_same(rng):
    x = draw(rng)
    for weights in ("all", "usage"):
        last = factor_of(pixel_weights=weights)
        first = factor_of(pixel_weights=weights, data_format="NCHW")
        expected = last.get_cov(folded(last, [x], 0.0))
        found = first.get_cov(folded(first, [np.moveaxis(x, -1, 1).copy()], 0.0))
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


# How it averages.


def test_averaged_moments_do_not_depend_on_how_batches_are_cut(rng):
    x = draw(rng, 6) * np.arange(1, 7).reshape(6, 1, 1, 1)

    def cov(averaged, batches):
        spec = factor_of(has_bias=True, averaged=averaged)
        state = spec.init(x)
        for batch in batches:
            state = spec.update_cov(state, batch, 1.0)
        return spec.get_cov(state)

    halves = [x[:3], x[3:]]
    np.testing.assert_allclose(
        cov("moments", halves), cov("moments", [x]), rtol=1e-12, atol=1e-13
    )
    apart = cov("covariances", halves) - cov("covariances", [x])
    assert np.max(np.abs(apart)) > 0.1


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("at_zero", [False, True])
def test_without_debiasing_the_initial_value_is_a_sample(has_bias, at_zero, rng):
    spec = factor_of(
        has_bias=has_bias, zero_debias=False, init_covariances_at_zero=at_zero
    )
    initial = spec.get_cov(spec.init(np.zeros(1)))
    expected = np.zeros_like(initial) if at_zero else np.eye(len(initial))
    np.testing.assert_array_equal(initial.round(15), expected)
    x = draw(rng)
    after = spec.get_cov(spec.update_cov(spec.init(x), x, 0.75))
    if at_zero:  # a quarter of what was estimated
        exact = dense_of([x], 1.0, has_bias, **OPTIONS[0])
        np.testing.assert_allclose(after, 0.25 * exact, rtol=0, atol=1e-14)


# What it refuses.


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"cholesky": ("damping",)}, "1/2"),
        ({"cholesky_inverse": ("damping",)}, "1/2"),
        ({"eigendecomposition": True}, "powers"),
        ({"pixel_weights": "none"}, "'all' or 'usage'"),
    ],
)
def test_what_is_not_served_is_refused_at_once(bad, word):
    with pytest.raises(kc.errors.ArgumentError, match=NAME) as caught:
        factor_of(**bad)
    assert word in str(caught.value)


def test_with_a_bias_it_is_a_second_moment(rng):
    # Not of patches, but of pixels: with one offset there is no other difference.
    x = draw(rng)
    spec = kc.factors.ConvInputSUAKroneckerFactor(
        kc.ConvolutionGeometry((1, 1, 3, 4), padding="SAME"), has_bias=True
    )
    found = spec.get_cov(spec.update_cov(spec.init(x), x, 0.0))
    expected = mean_square(with_one(x.reshape(-1, 3)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
