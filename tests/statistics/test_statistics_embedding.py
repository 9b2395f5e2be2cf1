"""Ids stand for n-hot vectors, however they are repeated and stored."""

import brute_force
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfac_core import backend_of
from kfac_core.statistics.ids import id_second_moment

REPEATED = ("n_hot", "count", "count_squared")
VOCABULARY = 5


def moment(library, ids, repeated_ids, vocab_size=VOCABULARY):
    towers = ids if isinstance(ids, list) else [ids]
    arrays = [library.asarray(tower) for tower in towers]
    backend = backend_of(*arrays)
    found = id_second_moment(
        backend, arrays, vocab_size, backend.xp.float64, repeated_ids
    )
    return library.to_numpy(found)


@pytest.mark.parametrize("repeated_ids", REPEATED)
@given(
    shape=st.sampled_from([(4,), (4, 1), (3, 2), (2, 9)]), seed=st.integers(0, 2**16)
)
def test_ids_count_as_their_rule_says(library, repeated_ids, shape, seed):
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, shape)
    np.testing.assert_allclose(
        moment(library, ids, repeated_ids),
        brute_force.id_second_moment(ids, VOCABULARY, repeated_ids),
        rtol=1e-15,
    )


@pytest.mark.parametrize(
    ("repeated_ids", "expected"),
    [
        ("n_hot", [0.5, 0.5, 0.5, 0]),
        ("count", [1, 0.5, 0.5, 0]),
        ("count_squared", [2, 0.5, 0.5, 0]),
    ],
)
def test_rules_differ_where_an_id_is_repeated(library, repeated_ids, expected):
    found = moment(library, np.asarray([[0, 0], [1, 2]]), repeated_ids, 4)
    assert found.tolist() == expected


@given(seed=st.integers(0, 2**16))
def test_rules_agree_where_ids_are_distinct(seed):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(VOCABULARY)[:3] for _ in range(4)])
    found = [
        id_second_moment(backend_of(ids), [ids], VOCABULARY, float, rule)
        for rule in REPEATED
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8"])
@pytest.mark.parametrize("repeated_ids", REPEATED)
def test_the_dtype_of_ids_does_not_matter(library, dtype, repeated_ids):
    # More ids than int8 has numbers.
    ids = np.asarray([[7, 7, 100], [0, 127, 3]])
    np.testing.assert_array_equal(
        moment(library, ids.astype(dtype), repeated_ids, 300),
        brute_force.id_second_moment(ids, 300, repeated_ids),
    )


@pytest.mark.parametrize("repeated_ids", REPEATED)
def test_long_cases_of_narrow_ids_do_not_overflow(library, repeated_ids):
    ids = np.asarray([[1] * 149 + [2]])
    np.testing.assert_array_equal(
        moment(library, ids.astype("int8"), repeated_ids),
        brute_force.id_second_moment(ids, VOCABULARY, repeated_ids),
    )


@pytest.mark.parametrize("repeated_ids", REPEATED)
def test_towers_of_ids_are_one_batch(library, rng, repeated_ids):
    ids = rng.integers(0, VOCABULARY, (6, 2))
    towers = [ids[:1], ids[1:1], ids[1:]]
    np.testing.assert_allclose(
        moment(library, towers, repeated_ids),
        brute_force.id_second_moment(ids, VOCABULARY, repeated_ids),
        rtol=1e-15,
    )


def test_cases_of_no_id_count_as_cases(library):
    towers = [np.zeros((3, 0), dtype="int64"), np.asarray([[1]])]
    assert moment(library, towers, "n_hot").tolist() == [0, 0.25, 0, 0, 0]
