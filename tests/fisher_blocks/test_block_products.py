"""Products are those with powers and Cholesky factors of the dense damped block."""

import numpy as np
import pytest
from block_case import NumPy, asarrays, damped, dense_power, flat, leaves, undamped
from block_cases import BLOCKS, DAMPED, EVERYWHERE

POWERS = (-1, -0.5, 0.5, 1, 2)
DAMPING = 0.3


@pytest.fixture
def library():
    return NumPy  # every other agrees with it: see test_block_libraries


@pytest.fixture(params=DAMPED, ids=lambda x: "-".join(filter(None, x)))
def damped_case(request):
    return request.param


@pytest.fixture
def case(damped_case):
    return BLOCKS[damped_case[0]]


@pytest.fixture
def block(case, damped_case):
    return case.made(damped_case[1], POWERS)


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


def test_the_block_is_the_fisher_of_its_data(case, block, state, data):
    found = block.full_fisher_block(state)
    expected = undamped(case.fisher(*data))
    np.testing.assert_allclose(
        found, expected, rtol=1e-12, atol=case.precision * np.abs(expected).max()
    )
    np.testing.assert_array_equal(found, found.T)


def test_products_are_those_with_the_power_of_the_damped_block(
    case, block, state, dense, rng
):
    vector = case.vector(rng)
    for exp in case.exponents(*POWERS):
        found = block.multiply_matpower(state, vector, exp)
        assert_close(flat(NumPy, found), dense_power(dense, exp) @ flat(NumPy, vector))
    for multiply, exp in ((block.multiply, 1), (block.multiply_inverse, -1)):
        if exp in case.exponents(1, -1):
            again = block.multiply_matpower(state, vector, exp)
            found = multiply(state, vector)
            np.testing.assert_array_equal(flat(NumPy, found), flat(NumPy, again))


@pytest.fixture
def known(case, block, state):
    """Return each product with a vector that the block serves, by name."""
    products = case.products(block, *POWERS)

    def product(name, vector):
        return products[name](state, vector)

    return product if len(products) > 1 else None


@pytest.fixture
def triangular(case, known):
    return None if case.powers_alone else known


def test_what_is_inverse_undoes(case, known, triangular, rng):
    vector = case.vector(rng)
    pairs = [] if known is None else [("power 1", "power -1")]
    if triangular is not None:
        pairs += [
            (f"multiply_cholesky {transpose}", f"multiply_cholesky_inverse {transpose}")
            for transpose in (False, True)
        ]
    for one, other in [*pairs, *((b, a) for a, b in pairs)]:
        assert_close(flat(NumPy, known(other, known(one, vector))), flat(NumPy, vector))


def test_cholesky_factors_square(case, triangular, rng):
    if triangular is None:
        return  # a block without
    vector = case.vector(rng)
    half = triangular("multiply_cholesky True", vector)
    found = triangular("multiply_cholesky False", half)
    assert_close(flat(NumPy, found), flat(NumPy, triangular("power 1", vector)))
    half = triangular("multiply_cholesky_inverse False", vector)
    found = triangular("multiply_cholesky_inverse True", half)
    assert_close(flat(NumPy, found), flat(NumPy, triangular("power -1", vector)))


def test_transposes_are_adjoints(case, triangular, rng):
    if triangular is None:
        return  # a block without
    u, v = (case.vector(rng) for _ in range(2))
    for name in ("multiply_cholesky", "multiply_cholesky_inverse"):
        left = flat(NumPy, u) @ flat(NumPy, triangular(f"{name} False", v))
        right = flat(NumPy, triangular(f"{name} True", u)) @ flat(NumPy, v)
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "kind"), EVERYWHERE)
def test_products_have_the_structure_of_the_vector(plain_library, name, kind, rng):
    library, case = plain_library, BLOCKS[name]
    block = case.made(kind)
    state = case.updated(NumPy, block, case.draw(rng, 6))
    state = library.moved(block.update_inverses(state, DAMPING))
    vector = asarrays(library, case.vector(rng))
    known = case.products(block, -1, 1).values()
    multiply = library.compiled(lambda *given: [product(*given) for product in known])
    for product in multiply(state, vector):
        assert type(product) is type(vector)
        for found, given in zip(leaves(product), leaves(vector), strict=True):
            assert type(found) is type(given)
            assert found.shape == given.shape
            assert found.dtype == given.dtype
            assert found.device == given.device
