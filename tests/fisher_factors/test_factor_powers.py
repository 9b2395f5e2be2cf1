"""What a factor serves are powers and Cholesky factors of its damped matrix."""

import numpy as np
import pytest
from factor_case import NumPy, one_of_each_form
from factor_cases import MATRICES, ROWS

import kfac_core as kc

POWERS = (-2, -1, -0.5, 0.5, 1, 2)
DAMPING = 0.3
# One for each way to serve; all others serve as one of these does.
SERVING = one_of_each_form(MATRICES)

WITH_CHOLESKY = {name: case for name, case in SERVING.items() if not case.powers_alone}


@pytest.fixture(params=SERVING)
def case(request):
    return SERVING[request.param]


@pytest.fixture
def spec(case):
    return case.make(**case.all_served(*POWERS, eigendecomposition=False))


@pytest.fixture
def state(library, case, spec, rng):
    state = case.updated(library, spec, case.draw(rng, 6))
    return spec.update_inverses(state, DAMPING)


@pytest.fixture
def damped(library, spec, state):
    return library.to_numpy(spec.get_cov(state)) + DAMPING * np.eye(spec.dimension)


def dense_power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exp) @ vectors.T


def test_left_and_right_products_are_those_with_the_power(
    library, spec, state, damped, rng
):
    check_products(library, spec, state, damped, rng)


@pytest.mark.parametrize("name", MATRICES)
def test_so_they_are_of_every_factor(name, rng):
    case = MATRICES[name]
    spec = case.make(matpowers=POWERS)
    state = case.updated(NumPy, spec, case.draw(rng, 6))
    damped = spec.get_cov(state) + DAMPING * np.eye(spec.dimension)
    check_products(NumPy, spec, spec.update_inverses(state, DAMPING), damped, rng)


def check_products(library, spec, state, damped, rng):
    n = spec.dimension
    x = rng.normal(size=(n, 2))
    for exp in POWERS:
        power = dense_power(damped, exp)
        left = spec.left_multiply_matpower(state, library.asarray(x), exp)
        right = spec.right_multiply_matpower(state, library.asarray(x.T), exp)
        atol = 1e-12 * np.abs(power).max()
        np.testing.assert_allclose(library.to_numpy(left), power @ x, atol=atol)
        np.testing.assert_allclose(library.to_numpy(right), x.T @ power, atol=atol)
        dense = library.to_numpy(spec.get_matpower(state, exp).to_dense())
        np.testing.assert_allclose(dense, power, atol=atol)


def test_a_vector_may_have_the_shape_of_the_statistics(
    library, spec, state, damped, rng
):
    v = rng.normal(size=spec.dimension)
    shapes = {(spec.dimension,)}
    if isinstance(spec.form, kc.factors.Diagonal):
        shapes.add(spec.cov_shape)
    expected = np.linalg.solve(damped, v)
    for shape in shapes:
        x = library.asarray(v.reshape(shape))
        for multiply in (spec.left_multiply_matpower, spec.right_multiply_matpower):
            found = library.to_numpy(multiply(state, x, -1))
            assert found.shape == shape
            np.testing.assert_allclose(found.ravel(), expected, rtol=1e-11, atol=1e-13)


def test_the_inverse_is_the_power_minus_one(library, spec, state):
    np.testing.assert_array_equal(
        library.to_numpy(spec.get_inverse(state).to_dense()),
        library.to_numpy(spec.get_matpower(state, -1).to_dense()),
    )


@pytest.mark.parametrize("case", WITH_CHOLESKY.values(), ids=WITH_CHOLESKY)
def test_cholesky_factors_square_to_the_damped_matrix(library, spec, state, damped):
    lower = library.to_numpy(spec.get_cholesky(state).to_dense())
    inverse = library.to_numpy(spec.get_cholesky_inverse(state).to_dense())
    np.testing.assert_array_equal(lower, np.tril(lower))
    np.testing.assert_allclose(lower @ lower.T, damped, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(inverse @ lower, np.eye(spec.dimension), atol=1e-12)
    if isinstance(spec.form, kc.factors.Diagonal):
        np.testing.assert_allclose(lower, np.sqrt(damped), rtol=1e-14)


def test_eigendecomposition_is_of_the_current_statistics(library, spec, state, damped):
    values, vectors = map(library.to_numpy, spec.get_eigendecomp(state))
    assert np.all(values >= 0)
    cov = damped - DAMPING * np.eye(spec.dimension)
    atol = 1e-13 * np.abs(cov).max()
    np.testing.assert_allclose((vectors * values) @ vectors.T, cov, atol=10 * atol)


@pytest.mark.parametrize("case", WITH_CHOLESKY.values(), ids=WITH_CHOLESKY)
def test_the_stored_eigendecomposition_is_a_snapshot(library, case, rng):
    spec = case.make(eigendecomposition=True)
    state = case.updated(library, spec, case.draw(rng, 6))
    state = spec.update_inverses(state, 0.0)
    cov = library.to_numpy(spec.get_cov(state))
    state = case.fold(library, spec, state, case.draw(rng, 6))
    values = library.to_numpy(spec.get_eigenvalues(state))
    vectors = library.to_numpy(spec.get_eigenvectors(state).to_dense())
    np.testing.assert_allclose(
        (vectors * values) @ vectors.T, cov, atol=1e-12 * np.abs(cov).max()
    )


def test_all_but_the_first_power_are_snapshots(library, case, spec, state, rng):
    later = case.fold(library, spec, state, case.draw(rng, 5))
    for exp in POWERS:
        before = library.to_numpy(spec.get_matpower(state, exp).to_dense())
        after = library.to_numpy(spec.get_matpower(later, exp).to_dense())
        if exp == 1:
            cov = library.to_numpy(spec.get_cov(later))
            before = cov + DAMPING * np.eye(spec.dimension)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-15 * (exp == 1))


def test_two_damping_ids_have_two_dampings(library, rng):
    # t16 of the original's suite: equal ids share what is stored.
    spec = ROWS.make(cholesky=("loose",))
    for damping_id in ("tight", "tight", "loose", ("loose", 2), "loose"):
        spec = spec.register_inverse(damping_id)
    assert spec.damping_ids == ("tight", "loose", ("loose", 2))
    assert len(spec.stored_matpowers) == 3
    state = ROWS.updated(library, spec, ROWS.draw(rng, 6))
    dampings = {
        "tight": 1e-3,
        "loose": 2.0,
        ("loose", 2): library.asarray(np.asarray(7.0)),
    }
    state = spec.update_inverses(state, dampings)
    cov = library.to_numpy(spec.get_cov(state))
    for damping_id, damping in dampings.items():
        found = library.to_numpy(spec.get_inverse(state, damping_id).to_dense())
        expected = np.linalg.inv(cov + float(damping) * np.eye(3))
        np.testing.assert_allclose(found, expected, rtol=1e-11)
    lower = library.to_numpy(spec.get_cholesky(state, "loose").to_dense())
    np.testing.assert_allclose(lower @ lower.T, cov + 2 * np.eye(3), rtol=1e-13)


def test_rounding_below_zero_does_not_turn_damping_negative(library):
    # Rank one, and a damping far below the rounding of its eigenvalues.
    rows = np.ones((3, 6)) * 1e4
    spec = kc.factors.FullyConnectedKroneckerFactor(6, matpowers=(-0.5,))
    state = spec.init(library.asarray(np.zeros(1)))
    state = spec.update_cov(state, library.asarray(rows), ema_decay=0.5)
    state = spec.update_inverses(state, 1e-12)
    power = library.to_numpy(spec.get_matpower(state, -0.5).to_dense())
    assert np.all(np.isfinite(power))
    assert np.linalg.eigvalsh(power)[0] > -1e-8 * np.linalg.norm(power, 2)
