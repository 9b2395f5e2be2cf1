"""The second moments of rows are those of their definition."""

import brute_force
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfac_core import backend_of
from kfac_core.moving_average import MovingAverage, fold, value
from kfac_core.statistics.rows import (
    SecondMoment,
    bordered,
    mean_over,
    second_moment,
    squared_moment,
)

SHAPES = st.sampled_from([(1, 1), (1, 3), (5, 1), (7, 3), (2, 5)])
SEEDS = st.integers(0, 2**16)


@given(shape=SHAPES, seed=SEEDS, has_bias=st.booleans())
def test_second_moment_is_the_mean_outer_product(library, shape, seed, has_bias):
    rows = np.random.default_rng(seed).normal(size=shape)
    x = library.asarray(rows)
    moment = library.to_numpy(second_moment(backend_of(x), [x], has_bias=has_bias))
    np.testing.assert_allclose(
        moment, brute_force.second_moment(rows, has_bias), rtol=1e-13, atol=1e-14
    )
    np.testing.assert_array_equal(moment, moment.T)


@given(shape=SHAPES, seed=SEEDS, has_bias=st.booleans())
def test_squared_moment_is_the_mean_squared_outer_product(
    library, shape, seed, has_bias
):
    rng = np.random.default_rng(seed)
    rows, gradients = rng.normal(size=shape), rng.normal(size=(shape[0], 2))
    x, g = library.asarray(rows), library.asarray(gradients)
    moment = squared_moment(backend_of(x), [(x, g)], has_bias=has_bias)
    np.testing.assert_allclose(
        library.to_numpy(moment),
        brute_force.squared_moment(rows, gradients, has_bias),
        rtol=1e-13,
    )


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 5, 1), (0, 7), (4, 0, 3)])
def test_towers_are_one_batch(library, rng, sizes, has_bias):
    rows, gradients = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    cuts = np.cumsum(sizes)[:-1]
    x = [library.asarray(part) for part in np.split(rows, cuts)]
    g = [library.asarray(part) for part in np.split(gradients, cuts)]
    backend = backend_of(*x)
    np.testing.assert_allclose(
        library.to_numpy(second_moment(backend, x, has_bias=has_bias)),
        brute_force.second_moment(rows, has_bias),
        rtol=1e-13,
    )
    pairs = list(zip(x, g, strict=True))
    np.testing.assert_allclose(
        library.to_numpy(squared_moment(backend, pairs, has_bias=has_bias)),
        brute_force.squared_moment(rows, gradients, has_bias),
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        library.to_numpy(mean_over(backend, x)), rows.mean(0), rtol=1e-13
    )


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("sizes", [(2,), (1, 3), (0, 2), (9,), (4, 8)])
def test_a_moment_added_is_the_moment_folded(library, rng, sizes, has_bias):
    # Fewer rows than columns, and more: the bias comes as a column, or as a border.
    n = 5 + has_bias
    rows = [rng.normal(size=(size, 5)) for size in sizes]
    total = rng.normal(size=(n, n))
    total, numbers = total + total.T, (0.7, 2.0, 0.25)
    towers = [library.asarray(x) for x in rows]
    backend = backend_of(*towers)
    decay, weight, before = (library.asarray(np.asarray(x)) for x in numbers)
    average = MovingAverage(library.asarray(total), before)
    samples = [SecondMoment(towers, has_bias)] * 2
    after = fold(backend, average, samples, decay, weight)
    moment = brute_force.second_moment(np.concatenate(rows), has_bias)
    found = library.to_numpy(after.total)
    expected = 0.7 * total + 4.0 * moment
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(float(after.weight), 0.7 * 0.25 + 2.0, rtol=1e-15)
    mean = library.to_numpy(value(backend, after, "layer"))
    np.testing.assert_allclose(mean, found / (0.7 * 0.25 + 2.0), rtol=1e-15)
    np.testing.assert_array_equal(library.to_numpy(average.total), total)


def test_second_moment_is_about_zero(library):
    # t1 of the original's suite: no mean is subtracted.
    x = library.asarray(np.full((100, 3), 2.0))
    moment = library.to_numpy(second_moment(backend_of(x), [x]))
    np.testing.assert_array_equal(moment, np.full((3, 3), 4.0))


def test_bias_is_a_border_of_the_means_and_a_one(library):
    # t2 of the original's suite: a one at the end of every row.
    x = library.asarray(np.asarray([[1.0, 2.0], [3.0, 4.0]]))
    backend = backend_of(x)
    moment = second_moment(backend, [x])
    expected = [[5, 7, 2], [7, 10, 3], [2, 3, 1]]
    for found in (
        bordered(backend, moment, mean_over(backend, [x])),
        second_moment(backend, [x], has_bias=True),
    ):
        np.testing.assert_array_equal(library.to_numpy(found), expected)
