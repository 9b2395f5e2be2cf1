"""Samples of cases and patches: of the right size, unbiased, and the key's alone."""

import itertools

import numpy as np
import pytest
from factor_truth import mean_square, windows

import kfac_core as kc
from kfac_core.contrib import fisher_blocks, fisher_factors
from kfac_core.statistics.patches.sampling import choose

NAME = "conv3"
SHAPE = (2, 2, 1, 3)


def generator(library, seed):
    """Return a key of a library: JAX's, a generator of PyTorch, or one of NumPy."""
    if library.package == "jax":
        return __import__("jax").random.key(seed)
    if library.package == "torch":
        return __import__("torch").Generator().manual_seed(seed)
    return np.random.default_rng(seed)


def updated(library, spec, x, seed=0):
    state = spec.init(library.asarray(np.zeros(1)))
    key = generator(library, seed)
    return spec.update_cov(state, library.asarray(x), 0.0, key=key)


def cov_of(library, spec, x, seed=0):
    return library.to_numpy(spec.get_cov(updated(library, spec, x, seed)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_every_subset_is_as_likely_as_any_other(library, count):
    # All orders of the numbers are equally likely, and each is enumerated.
    backend = kc.backend_of(library.asarray(np.zeros(1)))
    found = []
    for order in itertools.permutations(np.arange(4) / 4):
        places = choose(backend, library.asarray(np.array(order)), count)
        found.append(tuple(sorted(library.to_numpy(places).tolist())))
    expected = list(itertools.combinations(range(4), count))
    assert sorted(set(found)) == expected
    assert {found.count(subset) for subset in expected} == {24 // len(expected)}


def test_the_mean_over_all_samples_is_the_second_moment(rng):
    # Each of the equally likely samples of 2 of 4 rows, as `choose` makes them.
    rows = rng.normal(size=(4, 3))
    backend = kc.backend_of(rows)
    moments = [
        mean_square(rows[choose(backend, np.array(order), 2)])
        for order in itertools.permutations(np.arange(4.0))
    ]
    np.testing.assert_allclose(np.mean(moments, axis=0), mean_square(rows), atol=1e-15)


@pytest.mark.parametrize(
    ("cases", "fraction", "kept"), [(5, 0.2, 1), (6, 0.2, 2), (35, 0.2, 7), (3, 1, 3)]
)
def test_inputs_are_drawn_by_case_and_rounded_up(library, cases, fraction, kept):
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        sub_sample_inputs=True,
        inputs_fraction=fraction,
    )
    # The squares of case n are 2^n everywhere: a sum of squares tells the cases drawn.
    squares = 2.0 ** np.arange(cases).reshape(cases, 1, 1, 1)
    cov = cov_of(library, spec, np.sqrt(squares) * np.ones((1, 3, 3, 1)))
    total = round(cov[0, 0] * kept)
    np.testing.assert_allclose(cov, total / kept, rtol=1e-12)
    assert total.bit_count() == kept


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"max_patches": 3}, 3),
        ({"max_patches_per_dimension": 0.6}, 3),
        ({"max_patches_per_dimension": 1.25, "max_patches": 100}, 5),
        ({}, 8),
    ],
)
def test_patches_are_drawn_without_replacement(library, options, kept, rng):
    # Two cases of four patches of four entries: 3 per dimension keeps all eight.
    x = rng.normal(size=(2, 3, 3, 1))
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        sub_sample_patches=True,
        has_bias=True,
        **options,
    )
    cov = cov_of(library, spec, x)
    rows = np.concatenate(windows(x, (2, 2), (1, 1)))
    assert cov[-1, -1] == 1
    wanted = [
        mean_square(rows[list(subset)])
        for subset in itertools.combinations(range(8), kept)
    ]
    errors = [np.max(np.abs(cov[:-1, :-1] - moment)) for moment in wanted]
    assert min(errors) < 1e-14
    subset = list(itertools.combinations(range(8), kept))[int(np.argmin(errors))]
    np.testing.assert_allclose(cov[-1, :-1], rows[list(subset)].mean(0), atol=1e-14)


def test_both_at_once_draw_patches_of_the_cases_drawn(library, rng):
    x = rng.normal(size=(5, 3, 3, 1))
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        sub_sample_inputs=True,
        sub_sample_patches=True,
        inputs_fraction=0.4,
        max_patches=2,
    )
    rows = windows(x, (2, 2), (1, 1))
    found = {}
    for seed in range(6):
        cov = cov_of(library, spec, x, seed)
        for cases in itertools.combinations(range(5), 2):
            pool = np.concatenate(rows[list(cases)])
            for pair in itertools.combinations(range(8), 2):
                if np.allclose(cov, mean_square(pool[list(pair)]), atol=1e-13):
                    found[seed] = (cases, pair)
    assert len(found) == 6  # each is one of these samples
    assert len(set(found.values())) > 1


def test_a_key_decides_and_nothing_else(library, rng):
    x = rng.normal(size=(10, 3, 3, 1))
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"), sub_sample_inputs=True
    )
    first, again, other = (cov_of(library, spec, x, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.max(np.abs(first - other)) > 1e-3


def test_towers_count_by_all_their_patches(library):
    # Constant towers: whichever cases are drawn, each tower's moment is its own.
    towers = tuple(np.full((n, 3, 3, 1), value) for n, value in ((7, 1.0), (3, 2.0)))
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        sub_sample_inputs=True,
        sub_sample_patches=True,
        max_patches=2,
    )
    given = tuple(map(library.asarray, towers))
    state = spec.update_cov(spec.init(given[0]), given, 0.0, key=generator(library, 0))
    np.testing.assert_allclose(
        library.to_numpy(spec.get_cov(state)), np.full((4, 4), 1.9), rtol=1e-14
    )


def test_without_a_key_an_update_is_refused(plain_library, rng):
    library = plain_library
    x = library.asarray(rng.normal(size=(5, 3, 3, 1)))
    g = library.asarray(rng.normal(size=(5, 2, 2, 3)))
    factor = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        sub_sample_patches=True,
        name=NAME,
    )
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        sub_sample_inputs=True,
        name=NAME,
    )
    assert factor.needs_key
    assert block.needs_key
    assert not kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry(SHAPE, padding="VALID")
    ).needs_key
    for call in (
        lambda: factor.update_cov(factor.init(x), x, 0.0),
        lambda: block.update_covs(block.init(x), x, g, 0.0),
    ):
        with pytest.raises(kc.errors.ArgumentError, match=f"{NAME}.*key"):
            call()


@pytest.mark.parametrize(
    "bad",
    [
        {"inputs_fraction": 0},
        {"inputs_fraction": 1.5},
        {"inputs_fraction": float("nan")},
        {"max_patches": 0},
        {"max_patches_per_dimension": -1.0},
    ],
)
def test_sizes_out_of_range_are_refused(bad):
    with pytest.raises(kc.errors.ArgumentError, match=f"{NAME}: {next(iter(bad))}"):
        kc.factors.ConvInputKroneckerFactor(
            kc.ConvolutionGeometry(SHAPE, padding="VALID"), name=NAME, **bad
        )


def test_a_block_samples_its_input_factor_alone(library, rng):
    x, g = rng.normal(size=(10, 3, 3, 1)), rng.normal(size=(10, 2, 2, 3))
    data = library.asarray(x), library.asarray(g)
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"), sub_sample_inputs=True
    )
    state = block.update_covs(
        block.init(data[0]), *data, 0.0, key=generator(library, 3)
    )
    plain = kc.blocks.ConvKFCBasicFB(kc.ConvolutionGeometry(SHAPE, padding="VALID"))
    full = plain.update_covs(plain.init(data[0]), *data, 0.0)
    np.testing.assert_array_equal(
        library.to_numpy(state.output_factor.cov.total),
        library.to_numpy(full.output_factor.cov.total),
    )
    np.testing.assert_array_equal(
        library.to_numpy(state.input_factor.cov.total),
        cov_of(library, block.input_factor, x, 3),
    )
    assert float(state.uses.total) == 4


def test_contrib_takes_the_key_where_it_updates(library, rng):
    x, g = rng.normal(size=(10, 3, 3, 1)), rng.normal(size=(10, 2, 2, 3))
    data = library.asarray(x), library.asarray(g)
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"), sub_sample_inputs=True
    )
    expected = cov_of(library, spec, x, 3)
    factor = fisher_factors.ConvInputKroneckerFactor(
        [data[0]], SHAPE, "VALID", sub_sample_inputs=True
    )
    factor.instantiate_cov_variables()
    found = factor.make_covariance_update_op(0.0)(key=generator(library, 3))
    np.testing.assert_array_equal(library.to_numpy(found), expected)
    weights = library.asarray(np.zeros(SHAPE))
    block = fisher_blocks.ConvKFCBasicFB(None, weights, "VALID", sub_sample_inputs=True)
    block.register_additional_tower(*data)
    block.instantiate_factors([[data[1]]], 0.1)
    block.make_covariance_update_op(0.0)(key=generator(library, 3))
    found = block.input_factor.get_cov()
    np.testing.assert_array_equal(library.to_numpy(found), expected)


def test_a_key_is_an_argument_of_what_jax_compiles(jax, rng):
    x = jax.numpy.asarray(rng.normal(size=(10, 3, 3, 1)))
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        sub_sample_inputs=True,
        sub_sample_patches=True,
        max_patches=3,
    )
    traces = []

    @jax.jit
    def update(state, key):
        traces.append(1)
        return spec.update_cov(state, x, 0.0, key=key)

    for seed in (0, 1):
        key = jax.random.key(seed)
        eager = spec.update_cov(spec.init(x), x, 0.0, key=key)
        state = update(spec.init(x), key)
        np.testing.assert_allclose(
            spec.get_cov(state), spec.get_cov(eager), rtol=1e-13, atol=1e-15
        )
    assert len(traces) == 1
