"""Uncorrelated pixels whose mean is far larger than their deviation, in float32.

Second moments less the square of the mean would have ``(mean / deviation)^2`` times the
rounding errors of what is stored, a covariance about the mean. What is left of the mean
is its own rounding: with ``u`` the roundoff, ``T`` batches of ``N`` pixels each, and
``d`` the largest difference of a batch's mean from that of those before, an entry errs
by at most

    (N + 3 T + 8) u sqrt(S_ii S_jj)  +  |d_i| e_j + |d_j| e_i + e_i e_j,

where ``e = (3 T + 6) u |mean|`` is the error of a difference of means: three roundings
an update of the one, six of the other.
"""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.contrib.fisher_factors.convolution import SUA_SPECS

SHAPE = (2, 2, 3, 4)
UNIT = np.finfo(np.float32).eps / 2
DECAY = 0.75
MEANS = pytest.mark.parametrize("mean", [100.0, 1e4])


def spec_of(padding="SAME", averaged="moments", **options):
    geometry = kc.ConvolutionGeometry(SHAPE, padding=padding)
    return SUA_SPECS[averaged](geometry, **options)


def draw(rng, mean, batches=3):
    center = mean * np.asarray([1.0, -0.6, 0.3])
    drawn = [center + rng.normal(size=(4, 3, 4, 3)) for _ in range(batches)]
    return [x.astype(np.float32) for x in drawn]


def folded(spec, batches, update=None, **options):
    state = spec.init(batches[0])
    for x in batches:
        state = (update or spec.update_cov)(state, x, DECAY, **options)
    return state


def truth(batches):
    """Return mean and covariance of all pixels in float64, and the bound."""
    rows = [x.astype(np.float64).reshape(-1, 3) for x in batches]
    weights = DECAY ** np.arange(len(rows))[::-1]
    means = [x.mean(0) for x in rows]
    mean = np.average(means, axis=0, weights=weights)
    apart = [(x - mean).T @ (x - mean) / len(x) for x in rows]
    covariance = np.average(apart, axis=0, weights=weights)
    count, number = len(rows), len(rows[0])
    before = [np.average(means[:k], axis=0, weights=weights[:k]) for k in (1, 2)]
    d = np.abs(np.subtract(means[1:], before)).max(0)
    e = (3 * count + 6) * UNIT * np.abs(means).max(0)
    deviation = np.sqrt(np.diag(covariance))
    bound = (number + 3 * count + 8) * UNIT * np.outer(deviation, deviation)
    return mean, covariance, bound + np.outer(d, e) + np.outer(e, d) + np.outer(e, e)


@MEANS
def test_the_covariance_keeps_its_digits(library, mean, rng):
    batches = draw(rng, mean)
    exact_mean, exact, bound = truth(batches)
    spec = spec_of(assume_zero_mean=True)
    found = library.to_numpy(
        spec.get_cov(folded(spec, list(map(library.asarray, batches))))
    )
    assert found.dtype == np.float32
    for k in range(0, 12, 3):
        assert np.all(abs(found[k : k + 3, k : k + 3] - exact) <= bound)
    bordered = spec_of(has_bias=True)
    state = folded(bordered, list(map(library.asarray, batches)))
    row = library.to_numpy(bordered.get_cov(state))[-1, :3]
    np.testing.assert_allclose(row, exact_mean, rtol=20 * UNIT)


@MEANS
@pytest.mark.parametrize("package", ["jax", "torch"])
def test_compiled_it_keeps_them_too(package, mean, rng, request):
    library = request.getfixturevalue(package)
    batches = draw(rng, mean)
    _, exact, bound = truth(batches)
    spec = spec_of()
    if package == "jax":
        update = library.jit(spec.update_cov)
        arrays = list(map(library.numpy.asarray, batches))
    else:
        library._dynamo.reset()
        update = library.compile(spec.update_cov, fullgraph=True, backend="aot_eager")
        arrays = list(map(library.from_numpy, batches))
    state = folded(spec, arrays, update)
    found = np.asarray(spec.get_cov_as_linear_operator(state).within)
    assert np.all(abs(found - exact) <= bound)


@MEANS
def test_moments_less_the_square_of_the_mean_would_not(mean, rng):
    batches = draw(rng, mean)
    _, exact, bound = truth(batches)
    total, weight = np.zeros((4, 4), np.float32), np.float32(0)
    decay = np.float32(DECAY)
    for x in batches:
        rows = np.concatenate([x.reshape(-1, 3), np.ones((48, 1), np.float32)], axis=1)
        total = decay * total + rows.T @ rows / np.float32(48)
        weight = decay * weight + np.float32(1)
    moments = total / weight
    found = moments[:3, :3] - np.outer(moments[:3, 3], moments[:3, 3])
    assert np.max(abs(found - exact) / bound) > 5


@MEANS
@pytest.mark.parametrize(
    "options",
    [
        {"pixel_weights": "usage", "padding": "VALID"},
        {"pixel_weights": "usage", "padding": "SAME"},
        {"averaged": "covariances"},
        {"zero_debias": False},
        {"zero_debias": False, "init_covariances_at_zero": False},
    ],
)
def test_with_other_options_it_is_that_of_float64(options, mean, rng):
    batches = draw(rng, mean)
    weights = np.asarray([0.0, 1.0, 0.5, 2.0])
    _, _, bound = truth(batches)
    for given in ({}, {"weights": weights, "num_cases": 5}):
        spec = spec_of(**options)
        wide = folded(spec, [x.astype(np.float64) for x in batches], **given)
        state = folded(spec, batches, **given)
        found, exact = (
            spec.get_cov_as_linear_operator(s).within for s in (state, wide)
        )
        # Zeros, of a padding or of no sample yet, are pixels far from the mean.
        larger = np.abs(exact).max() / 0.5
        assert found.dtype == np.float32
        assert np.max(abs(found - exact)) <= bound.max() * max(larger, 1)


@MEANS
@pytest.mark.parametrize("has_bias", [False, True])
def test_inverses_keep_them_too(library, has_bias, mean, rng):
    batches, damping = draw(rng, mean), 0.1
    exact_mean, covariance, bound = truth(batches)
    spec = spec_of(has_bias=has_bias, matpowers=(-1, -2))
    state = folded(spec, list(map(library.asarray, batches)))
    state = spec.update_inverses(state, damping)
    # Of the matrix with the mean left out, and without its border.
    row = np.concatenate([np.tile(exact_mean, 4), np.ones(int(has_bias))])
    dense = np.outer(row, row) + damping * np.eye(len(row))
    dense[:12, :12] += np.kron(np.eye(4), covariance)
    damped = covariance + damping * np.eye(3)
    error = 72 * UNIT * np.linalg.cond(damped)
    error += np.linalg.norm(bound, 2) * np.linalg.norm(np.linalg.inv(damped), 2)
    exact = np.linalg.inv(dense)
    for exp in (-1, -2):
        found = library.to_numpy(spec.get_matpower(state, exp).to_dense())
        wanted = np.linalg.matrix_power(exact, -exp)
        difference = np.linalg.norm(found - wanted, 2)
        # Float64 has its roundings as well, of the whole matrix.
        own = np.finfo(float).eps * np.linalg.cond(dense)
        assert difference <= -exp * (error + own) * np.linalg.norm(wanted, 2)


def test_constants_have_no_covariance_whatever_they_are(library):
    x = np.full((4, 3, 4, 3), 12345.678, np.float32)
    spec = spec_of()
    state = folded(spec, [library.asarray(x)] * 5)
    within = library.to_numpy(spec.get_cov_as_linear_operator(state).within)
    assert np.max(np.abs(within)) <= ((3 * 5 + 6) * UNIT * 12345.678) ** 2


def test_what_is_told_of_a_state_are_moments_about_zero(library, rng):
    x = rng.normal(size=(4, 3, 4, 3)) + 2
    spec = spec_of()
    state = folded(spec, [library.asarray(x)])
    rows = np.concatenate([x.reshape(-1, 3), np.ones((48, 1))], axis=1)
    found = library.to_numpy(spec.get_cov_var(state))
    np.testing.assert_allclose(found, rows.T @ rows / 48, rtol=1e-13)


def test_constants_whose_square_overflows_are_refused(library):
    x = library.asarray(np.full((4, 3, 4, 3), 1e30, np.float32))
    spec = spec_of(name="conv3")
    with pytest.raises(kc.errors.NotFiniteError, match="conv3"):
        spec.update_cov(spec.init(x), x, 0.5)
