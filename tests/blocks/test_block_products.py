"""Products are those with powers and Cholesky factors of the dense damped block."""

import numpy as np
import pytest
from block_cases import (
    BLOCKS,
    DAMPED,
    asarrays,
    damped,
    dense_power,
    flat,
    undamped,
)

POWERS = (-1, -0.5, 0.5, 1, 2)
DAMPING = 0.3


@pytest.fixture(params=DAMPED, ids=lambda x: "-".join(filter(None, x)))
def damped_case(request):
    return request.param


@pytest.fixture
def case(damped_case):
    return BLOCKS[damped_case[0]]


@pytest.fixture
def block(case, damped_case):
    options = {"damping_type": damped_case[1]} if damped_case[1] else {}
    return case.make(matpowers=POWERS, cholesky=True, cholesky_inverse=True, **options)


@pytest.fixture
def data(case, rng):
    return case.draw(rng, 6)


@pytest.fixture
def state(library, case, block, data):
    return block.update_inverses(case.updated(library, block, data), DAMPING)


@pytest.fixture
def dense(case, damped_case, data):
    return damped(case.fisher(*data), DAMPING, damped_case[1])


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-11 * np.abs(expected).max())


def test_the_block_is_the_fisher_of_its_data(library, case, block, state, data):
    found = library.to_numpy(block.full_fisher_block(state))
    expected = undamped(case.fisher(*data))
    np.testing.assert_allclose(
        found, expected, rtol=1e-12, atol=1e-14 * np.abs(expected).max()
    )
    np.testing.assert_array_equal(found, found.T)


def test_products_are_those_with_the_power_of_the_damped_block(
    library, case, block, state, dense, rng
):
    vector = asarrays(library, case.vector(rng))
    for exp in POWERS:
        found = block.multiply_matpower(state, vector, exp)
        assert_close(
            flat(library, found), dense_power(dense, exp) @ flat(library, vector)
        )
    for found, exp in (
        (block.multiply(state, vector), 1),
        (block.multiply_inverse(state, vector), -1),
    ):
        again = block.multiply_matpower(state, vector, exp)
        np.testing.assert_array_equal(flat(library, found), flat(library, again))


def test_the_inverse_undoes_the_product(library, case, block, state, rng):
    vector = asarrays(library, case.vector(rng))
    for there, back in [
        (block.multiply, block.multiply_inverse),
        (block.multiply_inverse, block.multiply),
    ]:
        found = back(state, there(state, vector))
        assert_close(flat(library, found), flat(library, vector))


def test_the_cholesky_factor_squares_to_the_damped_block(
    library, case, block, state, rng
):
    vector = asarrays(library, case.vector(rng))
    half = block.multiply_cholesky(state, vector, transpose=True)
    found = block.multiply_cholesky(state, half)
    assert_close(flat(library, found), flat(library, block.multiply(state, vector)))
    half = block.multiply_cholesky_inverse(state, vector)
    found = block.multiply_cholesky_inverse(state, half, transpose=True)
    assert_close(
        flat(library, found), flat(library, block.multiply_inverse(state, vector))
    )


def test_the_inverse_cholesky_factor_undoes_the_cholesky_factor(
    library, case, block, state, rng
):
    vector = asarrays(library, case.vector(rng))
    for transpose in (False, True):
        there = block.multiply_cholesky(state, vector, transpose)
        found = block.multiply_cholesky_inverse(state, there, transpose)
        assert_close(flat(library, found), flat(library, vector))


def test_transposes_are_adjoints(library, case, block, state, rng):
    u, v = (asarrays(library, case.vector(rng)) for _ in range(2))
    for multiply in (block.multiply_cholesky, block.multiply_cholesky_inverse):
        left = flat(library, u) @ flat(library, multiply(state, v))
        right = flat(library, multiply(state, u, transpose=True)) @ flat(library, v)
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-12)


def test_products_have_the_structure_of_the_vector(library, case, block, state, rng):
    vector = asarrays(library, case.vector(rng))
    for product in (
        block.multiply(state, vector),
        block.multiply_inverse(state, vector),
        block.multiply_cholesky(state, vector),
        block.multiply_cholesky_inverse(state, vector, transpose=True),
    ):
        assert type(product) is type(vector)
        tensors = [(product, vector)]
        if isinstance(vector, tuple):
            tensors = list(zip(product, vector, strict=True))
        for found, given in tensors:
            assert type(found) is type(given)
            assert found.shape == given.shape
            assert found.dtype == given.dtype
            assert found.device == given.device
