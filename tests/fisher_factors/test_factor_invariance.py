"""What must not change the statistics, and what must change them in a known way."""

import numpy as np
import pytest
from factor_case import NumPy
from factor_cases import BATCHED, FACTORS
from hypothesis import given
from hypothesis import strategies as st

SCALED = {name: case for name, case in FACTORS.items() if case.scaled is not None}
WITH_SOURCES = {
    name: case for name, case in FACTORS.items() if case.sources is not None
}
BORDERED = {name: case for name, case in FACTORS.items() if case.bordered}


def statistics(library, case, data, dtype="float64"):
    spec = case.make()
    state = case.updated(library, spec, data, dtype)
    return library.to_numpy(spec.get_cov_var(state))


def assert_same(found, expected):
    atol = 1e-13 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=atol)


def check_towers(library, case, cuts, rng):
    data = case.draw(rng, 6)
    found = statistics(library, case, case.split(data, cuts))
    assert_same(found, statistics(library, case, data))


# Towers of no row, beside others, are among these.
@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("cuts", [(1,), (2, 5), (0,), (3, 3), (6,)])
def test_towers_of_unequal_size_are_one_batch(name, cuts, rng):
    check_towers(NumPy, BATCHED[name], cuts, rng)


@pytest.mark.parametrize("name", BATCHED)
def test_so_they_are_in_every_library(library, name, rng):
    check_towers(library, BATCHED[name], (0, 2), rng)


@pytest.mark.parametrize("name", WITH_SOURCES)
def test_sources_are_summed(name, rng):
    case = WITH_SOURCES[name]
    first, second = list(case.draw(rng, 4)), list(case.draw(rng, 4))
    place = case.sources
    # All but the gradients is shared by the sources.
    second[:place] = first[:place]
    together = list(first)
    together[place] = ((first[place],), (second[place],))
    assert_same(
        statistics(NumPy, case, tuple(together)),
        case.moment(*first) + case.moment(*second),
    )


@pytest.mark.parametrize("name", WITH_SOURCES)
def test_sources_have_towers(library, name, rng):
    case = WITH_SOURCES[name]
    first, second = list(case.draw(rng, 5)), list(case.draw(rng, 5))
    place = case.sources
    second[:place] = first[:place]
    together, others = list(case.split(first, (2,))), case.split(second, (2,))
    together[place] = (together[place], others[place])
    assert_same(
        statistics(library, case, tuple(together)),
        case.moment(*first) + case.moment(*second),
    )


@pytest.mark.parametrize("name", BATCHED)
def test_the_order_of_cases_does_not_matter(name, rng):
    case = BATCHED[name]
    data = case.draw(rng, 6)
    shuffled = case.chosen(data, rng.permutation(6))
    assert_same(statistics(NumPy, case, shuffled), statistics(NumPy, case, data))


@pytest.mark.parametrize("name", BATCHED)
def test_data_given_twice_count_as_once(name, rng):
    case = BATCHED[name]
    data = case.draw(rng, 4)
    twice = case.chosen(data, [0, 1, 2, 3, 0, 1, 2, 3])
    assert_same(statistics(NumPy, case, twice), statistics(NumPy, case, data))


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(k=st.integers(-20, 20), seed=st.integers(0, 3))
def test_data_times_a_power_of_two_scale_the_statistics_bit_for_bit(
    library, name, dtype, k, seed
):
    case = SCALED[name]
    data = case.draw(np.random.default_rng(seed), 5)
    data = [x.astype(dtype) for x in data]
    plain = statistics(library, case, tuple(data), dtype)
    data[case.scaled] = np.ldexp(data[case.scaled], k)
    scaled = statistics(library, case, tuple(data), dtype)
    np.testing.assert_array_equal(scaled, np.ldexp(plain, 2 * k))


@pytest.mark.parametrize("name", BORDERED)
def test_data_do_not_scale_the_corner_of_the_bias(library, name, rng):
    case = BORDERED[name]
    data = case.draw(rng, 5)
    plain = statistics(library, case, data)
    scaled = statistics(library, case, tuple(4 * x for x in data))
    assert plain[-1, -1] == scaled[-1, -1] == 1
    np.testing.assert_array_equal(scaled[:-1, :-1], 16 * plain[:-1, :-1])
    np.testing.assert_array_equal(scaled[-1, :-1], 4 * plain[-1, :-1])
