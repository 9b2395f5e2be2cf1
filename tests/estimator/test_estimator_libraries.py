"""The estimator on every library, and compiled as one program."""

import numpy as np
import pytest
from estimator_cases import (
    CASES,
    CATEGORICAL,
    assert_named_close,
    draw,
    draw_like_params,
    moved,
    output_factors,
    statistics,
)

import kfac_core as kc
from kfac_core.estimator import FisherEstimator
from kfac_core.reference import Batch

MODEL = CASES["dense"].model


def estimator_of(mode, **options):
    collection = MODEL.layer_collection(CATEGORICAL, coeff=0.5)
    return FisherEstimator(collection, estimation_mode=mode, **options)


def step(estimator, state, params, batch, v, noise, decay, damping):
    """One step of everything, from data to a product."""
    linearization = MODEL.linearize(params, batch)
    state = estimator.update_covs(state, linearization, decay, noise=noise)
    state = estimator.update_inverses(state, damping)
    return state, estimator.multiply_inverse(state, v)


def first_step(estimator, params, batch, v, noise):
    """Return the statistics and a product of the first step."""
    state = estimator.init(params)
    state, product = step(estimator, state, params, batch, v, noise, 0.9, 0.1)
    return output_factors(estimator, state), product, state.cases


def of_dtype(data, dtype):
    if isinstance(data, dict):
        return {name: of_dtype(x, dtype) for name, x in data.items()}
    if isinstance(data, Batch):
        return data._replace(inputs=data.inputs.astype(dtype))
    return data.astype(dtype)


def data_of(rng, estimator):
    drawn = draw(CASES["dense"], rng)
    batch = drawn.batch._replace(targets=rng.integers(3, size=5))
    v = draw_like_params(MODEL, rng)
    shapes = estimator.noise_shapes(MODEL.linearize(drawn.params, batch))
    noise = {site: rng.uniform(size=shape) for site, shape in shapes.items()}
    return drawn.params, batch, v, noise


# The worst error seen in float32 is 4e-7.
@pytest.mark.parametrize(
    ("mode", "dtype", "bound"),
    [("gradients", np.float64, 1e-12), ("curvature_prop_GGN", np.float32, 2e-6)],
)
def test_every_library_estimates_alike(library, rng, mode, dtype, bound):
    estimator = estimator_of(mode)
    data = [of_dtype(part, dtype) for part in data_of(rng, estimator)]
    expected = first_step(estimator, *(of_dtype(part, np.float64) for part in data))
    given = [moved(library, part) for part in data]
    like = given[0]["dense_0/bias"]

    def run(*data):
        return first_step(estimator, *data)

    if library.package == "jax":  # operation by operation it is slow
        run = kc.backend_of(like).jit(run)
    *found, cases = run(*given)
    for own, truth in zip(found, expected[:2], strict=True):
        assert all(own[name].dtype == like.dtype for name in truth)
        plain = {name: library.to_numpy(own[name]) for name in truth}
        assert_named_close(plain, truth, bound)
    assert int(cases) == 5


def test_one_trace_serves_every_batch_decay_and_damping(jax, rng):
    estimator = estimator_of("gradients")
    traces = []

    @jax.jit
    def compiled(state, *arguments):
        traces.append(state)
        return step(estimator, state, *arguments)

    params, *_ = data_of(rng, estimator)
    expected = estimator.init(params)
    own = estimator.init(jax.tree.map(jax.numpy.asarray, params))
    for decay, damping in [(0.9, 0.1), (0.5, 1.0), (0.0, 0.3)]:
        data = data_of(rng, estimator)
        given = jax.tree.map(jax.numpy.asarray, data)
        expected, truth = step(estimator, expected, *data, decay, damping)
        own, product = compiled(own, *given, decay, damping)
        assert_named_close({name: product[name] for name in truth}, truth)
    assert len(traces) == 1
    assert int(own.cases) == 15
    assert bool(own.ok)


def test_under_a_trace_a_refused_layer_is_told(jax, rng):
    estimator = estimator_of("exact")
    drawn = draw(CASES["dense"], rng)
    params, batch = jax.tree.map(jax.numpy.asarray, tuple(drawn))

    @jax.jit
    def update(state, x):
        made = MODEL.linearize(params, batch._replace(inputs=x))
        return estimator.update_covs(state, made, 0.5)

    good = update(estimator.init(params), batch.inputs)
    bad = update(good, batch.inputs.at[0, 0].set(jax.numpy.nan))
    assert (bool(good.ok), bool(bad.ok)) == (True, False)
    for name, factor in output_factors(estimator, bad).items():
        assert np.array_equal(factor, output_factors(estimator, good)[name])


def test_keys_of_jax_are_traced(jax, rng):
    estimator = estimator_of("gradients", num_samples=2)
    drawn = draw(CASES["dense"], rng)
    params, batch = jax.tree.map(jax.numpy.asarray, tuple(drawn))

    @jax.jit
    def update(key):
        made = MODEL.linearize(params, batch)
        return output_factors(estimator, statistics(estimator, params, made, key=key))

    first, second = (jax.random.key(seed) for seed in (0, 1))
    assert_named_close(update(first), update(first), 0)
    assert not np.allclose(update(first)["dense_1"], update(second)["dense_1"])


def test_a_generator_of_torch_draws_the_same_again(torch, rng):
    estimator = estimator_of("curvature_prop", num_samples=2)
    drawn = draw(CASES["dense"], rng)
    params = {name: torch.asarray(x) for name, x in drawn.params.items()}
    made = MODEL.linearize(params, Batch(torch.asarray(drawn.batch.inputs)))

    def update(seed):
        key = torch.Generator().manual_seed(seed)
        return output_factors(estimator, statistics(estimator, params, made, key=key))

    assert_named_close(update(0), update(0), 0)
    assert not np.allclose(update(0)["dense_1"], update(1)["dense_1"])


def test_a_batch_of_another_library_is_refused(torch, rng):
    estimator = estimator_of("exact")
    drawn = draw(CASES["dense"], rng)
    params = {name: torch.asarray(x) for name, x in drawn.params.items()}
    made = MODEL.linearize(drawn.params, drawn.batch)
    with pytest.raises(kc.errors.BackendError, match=r"numpy.*torch|torch.*numpy"):
        estimator.update_covs(estimator.init(params), made, 0.5)
