"""Functions of a block's matrix are those of the dense matrix."""

import numpy as np
import pytest
from block_case import NumPy, flat
from block_cases import BLOCKS
from weighted_cases import OTHERS, packed

import kfac_core as kc
from kfac_core.spectral import SpectralBlock

CASES = {**BLOCKS, **OTHERS}
DAMPING, SCALE = 0.3, 7.0


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def case(name):
    return CASES[name]


@pytest.fixture
def block(case):
    return case.made(case.kinds[0])


@pytest.fixture
def state(name, case, block, rng):
    data = packed(name, case, case.draw(rng, 6))
    return block.update_covs(
        block.init(np.zeros(1)), *data, ema_decay=0.5, **case.extra
    )


@pytest.fixture
def dense(block, state):
    return block.full_fisher_block(state)


@pytest.fixture
def damped(dense):
    return SCALE * dense + DAMPING * np.eye(len(dense))


@pytest.fixture
def curvature(block):
    return SpectralBlock(block)


@pytest.fixture
def spectrum(curvature, state):
    return curvature.decompose(state)


def power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exp) @ vectors.T


def assert_close(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * scale)


def test_all_eigenvalues_are_there(curvature, spectrum, dense):
    found = np.sort(curvature.eigenvalues(spectrum))
    assert_close(found, np.linalg.eigvalsh(dense))


def test_sums_over_the_spectrum(curvature, spectrum, dense, damped):
    assert_close(curvature.trace(spectrum), np.trace(dense))
    assert_close(curvature.frobenius_norm(spectrum), np.linalg.norm(dense))
    found = curvature.logdet(spectrum, DAMPING, SCALE)
    assert_close(found, np.linalg.slogdet(damped)[1])


def test_powers_and_other_functions(case, curvature, spectrum, dense, damped, rng):
    vector = case.vector(rng)
    for exp in (-1, -0.5, 0, 0.3, 1, 2):
        found = curvature.multiply_matpower(spectrum, vector, exp, DAMPING, SCALE)
        assert_close(flat(NumPy, found), power(damped, exp) @ flat(NumPy, vector))
    # One that is not zero at zero, where a factor of low rank has no direction.
    found = curvature.multiply_function(spectrum, vector, np.cos)
    values, vectors = np.linalg.eigh(dense)
    expected = vectors @ (np.cos(values) * (vectors.T @ flat(NumPy, vector)))
    assert_close(flat(NumPy, found), expected)


def test_diagonals(case, curvature, spectrum, damped, rng):
    like = case.vector(rng)
    for exp in (-1, 1):
        found = curvature.diagonal(spectrum, like, exp, DAMPING, SCALE)
        assert_close(flat(NumPy, found), np.diag(power(damped, exp)))


def stacked(vectors):
    """Return vectors as one, with an axis in front."""
    if isinstance(vectors[0], tuple):
        return tuple(np.stack(parts) for parts in zip(*vectors, strict=True))
    return np.stack(vectors)


def test_forms_of_many_vectors(case, curvature, spectrum, damped, rng):
    vectors = [case.vector(rng) for _ in range(3)]
    rows = np.stack([flat(NumPy, vector) for vector in vectors])
    for exp in (-1, 1):
        given = spectrum, stacked(vectors), exp, DAMPING, SCALE
        expected = rows @ power(damped, exp) @ rows.T
        assert_close(curvature.inner_products(*given), expected)
        assert_close(curvature.quadratic_forms(*given), np.diag(expected))


def test_the_variance_of_outputs_at_many_points(case, curvature, spectrum, damped, rng):
    points = [[case.vector(rng) for _ in range(2)] for _ in range(3)]
    jacobians = stacked([stacked(outputs) for outputs in points])
    found = curvature.functional_variance(spectrum, jacobians, DAMPING, SCALE)
    rows = np.stack([[flat(NumPy, v) for v in outputs] for outputs in points])
    assert_close(found, rows @ np.linalg.inv(damped) @ np.swapaxes(rows, 1, 2))


def test_the_operator_of_scipy(case, curvature, spectrum, dense, damped, rng):
    like = case.vector(rng)
    eye = np.eye(len(dense))
    for exp in (-1, 0.5):
        operator = curvature.as_linear_operator(spectrum, like, exp, DAMPING, SCALE)
        assert_close(operator @ eye, power(damped, exp))
        assert_close(operator.H @ (1j * eye), 1j * power(damped, exp))
    cosine = curvature.as_linear_operator(spectrum, like, function=np.cos)
    values, vectors = np.linalg.eigh(dense)
    assert_close(cosine @ eye, (vectors * np.cos(values)) @ vectors.T)


def test_a_sample_is_the_root_times_normal_numbers(case, curvature, spectrum, damped):
    like = case.vector(np.random.default_rng(0))
    for exp in (-1, 1):
        found = curvature.sample(
            spectrum, np.random.default_rng(3), like, exp, DAMPING, SCALE
        )
        # The same generator draws the numbers of each parameter in turn.
        numbers = np.random.default_rng(3).standard_normal(len(damped))
        assert_close(flat(NumPy, found), power(damped, exp / 2) @ numbers)


def test_the_damping_is_not_that_of_the_factors(rng):
    """A negative twin: pi damping of the factors is another matrix."""
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2)
    x, g = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    state, vector = block.update_inverses(state, DAMPING), rng.normal(size=(3, 2))
    curvature = SpectralBlock(block)
    exact = curvature.multiply_matpower(
        curvature.decompose(state), vector, -1, damping=DAMPING
    )
    by_factors = block.multiply_inverse(state, vector)
    assert np.abs(exact - by_factors).max() > 1e-3 * np.abs(exact).max()
    same = kc.blocks.FullyConnectedKFACBasicFB(3, 2, damping_type="exact")
    state = same.update_covs(same.init(like=x), x, g, ema_decay=0.0)
    state = same.update_inverses(state, DAMPING)
    assert_close(same.multiply_inverse(state, vector), exact)


def test_a_block_of_a_million_columns_stays_small(rng):
    columns, rows = 1_000_000, 3
    block = kc.blocks.FullyConnectedKFACBasicFB(columns, 2, input_max_rows=rows)
    x, g = rng.normal(size=(rows, columns)), rng.normal(size=(rows, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    curvature = SpectralBlock(block)
    spectrum = curvature.decompose(state)
    assert spectrum[0].eigenvalues.shape == (rows, 2)
    of_rows = np.linalg.eigvalsh(x @ x.T / rows)
    of_outputs = np.linalg.eigvalsh(g.T @ g / rows)
    few = np.log(np.outer(of_rows, of_outputs) + DAMPING).sum()
    rest = (columns - rows) * 2 * np.log(DAMPING)
    assert_close(curvature.logdet(spectrum, DAMPING), few + rest)
    variances = curvature.diagonal(spectrum, x[0][:, None] * g[:1], -1, DAMPING)
    np.testing.assert_allclose(
        variances.sum(),
        (1 / (np.outer(of_rows, of_outputs) + DAMPING)).sum()
        + (columns - rows) * 2 / DAMPING,
        rtol=1e-11,
    )
