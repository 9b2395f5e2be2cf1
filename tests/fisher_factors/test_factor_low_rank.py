"""The factor of the latest rows: the dense one while none is dropped, and its cost."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc

NAME = "wide3"
POWERS = (-1, -0.5, 2)


def factor_of(size=6, max_rows=8, **options):
    return kc.factors.FullyConnectedKroneckerFactor(
        size, form=kc.factors.LowRank(max_rows=max_rows), name=NAME, **options
    )


def dense_of(spec):
    return kc.factors.FullyConnectedKroneckerFactor(
        spec.size,
        spec.has_bias,
        matpowers=spec.matpowers,
        zero_debias=spec.zero_debias,
    )


def folded(spec, batches, decays, weights=None):
    state = spec.init(np.zeros(1))
    weights = weights or [None] * len(batches)
    for batch, decay, weight in zip(batches, decays, weights, strict=True):
        state = spec.update_cov(state, batch, decay, weight)
    return state


def count(data):
    return sum(map(count, data)) if isinstance(data, tuple) else len(data)


def assert_close(found, expected, bound=1e-13):
    scale = np.abs(expected).max(initial=1e-300)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * scale)


# Theorem: it is the dense factor as long as no row with weight is dropped.


@st.composite
def histories(draw):
    """Draw batches of sources of towers, and their decays and weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.integers(1, 3))
    rows = st.lists(st.integers(1, 3), min_size=1, max_size=2)
    batches = [
        tuple(
            tuple(rng.normal(size=(n, 4)) for n in towers)
            for towers in draw(st.lists(rows, min_size=1, max_size=2))
        )
        for _ in range(steps)
    ]
    numbers = st.lists(st.floats(0.1, 1.0), min_size=steps, max_size=steps)
    return batches, draw(numbers), draw(numbers)


@given(histories(), st.booleans(), st.booleans())
def test_it_is_the_dense_factor(history, has_bias, zero_debias):
    batches, decays, weights = history
    # Without debiasing the initial zero is a row, too.
    spec = factor_of(
        4, count(tuple(batches)) + 1, has_bias=has_bias, zero_debias=zero_debias
    )
    state = folded(spec, batches, decays, weights)
    dense = dense_of(spec)
    expected = folded(dense, batches, decays, weights)
    assert_close(spec.get_cov(state), dense.get_cov(expected))
    assert_close(state.cov.weight, expected.cov.weight)


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("zero_debias", [False, True])
def test_it_is_not_once_a_row_with_weight_is_dropped(decay, zero_debias, rng):
    spec = factor_of(max_rows=8, zero_debias=zero_debias)
    batches = [rng.normal(size=(4, 6)), rng.normal(size=(5, 6))]
    dense = dense_of(spec)
    found = spec.get_cov(folded(spec, batches, [0.5, decay], [1.0, 1.0]))
    expected = dense.get_cov(folded(dense, batches, [0.5, decay], [1.0, 1.0]))
    if decay == 0:
        assert_close(found, expected)
    else:
        assert np.max(np.abs(found - expected)) > 0.01


def test_what_is_dropped_are_the_oldest_rows(rng):
    spec = factor_of(max_rows=8)
    batches = [rng.normal(size=(n, 6)) for n in (6, 4, 3)]
    weights, decays = [2.0, 1.0, 0.7], [0.3, 0.9, 0.5]
    state = folded(spec, batches, decays, weights)
    each = np.repeat([2.0 / 6 * 0.9 * 0.5, 1.0 / 4 * 0.5, 0.7 / 3], [6, 4, 3])[-8:]
    rows = np.concatenate(batches)[-8:]
    assert_close(spec.get_cov(state), (rows.T * each) @ rows / each.sum())


# Powers, and what they are of.


def test_powers_are_those_of_the_dense_matrix(library, rng):
    spec = factor_of(has_bias=True, max_rows=4, matpowers=(1, *POWERS))
    rows = library.asarray(rng.normal(size=(3, 6)))  # and one row of zeros
    state = spec.update_cov(spec.init(rows), rows, 0.5)
    dense = library.to_numpy(spec.get_cov(state))
    n = len(dense)
    assert spec.dimension == n
    np.testing.assert_array_equal(dense, dense.T)
    assert_close(float(spec.trace(state)), np.trace(dense))
    state = spec.update_inverses(state, 0.1)
    values, vectors = np.linalg.eigh(dense + 0.1 * np.eye(n))
    x = rng.normal(size=(n, 2))
    for exp in (1, *POWERS):
        power = (vectors * values**exp) @ vectors.T
        found = spec.get_matpower(state, exp)
        assert_close(library.to_numpy(found.to_dense()), power, 1e-12)
        assert_close(float(found.trace()), np.trace(power), 1e-12)
        left = spec.left_multiply_matpower(state, library.asarray(x), exp)
        assert_close(library.to_numpy(left), power @ x, 1e-11)
        vector = library.asarray(x[:, 0].copy())
        right = spec.right_multiply_matpower(state, vector, exp)
        assert_close(library.to_numpy(right), x[:, 0] @ power, 1e-11)
    eigen = spec.get_eigendecomp(state)
    assert_close(library.to_numpy(eigen.values) + 0.1, values, 1e-12)


def test_in_float32_powers_are_off_by_the_condition(rng):
    spec = factor_of(40, 8, matpowers=(-1, -0.5))
    rows = rng.normal(size=(8, 40)).astype("float32")
    state = spec.update_inverses(spec.update_cov(spec.init(rows), rows, 0.5), 0.01)
    damped = rows.T.astype("float64") @ rows / 8 + 0.01 * np.eye(40)
    values, vectors = np.linalg.eigh(damped)
    for exp in (-1, -0.5):
        found = spec.get_matpower(state, exp).to_dense()
        assert found.dtype == np.float32
        power = (vectors * values**exp) @ vectors.T
        error = np.linalg.norm(found - power, 2) / np.linalg.norm(power, 2)
        assert error <= np.finfo(np.float32).eps * np.linalg.cond(damped)


def test_powers_are_snapshots_and_the_power_1_is_not(rng):
    spec = factor_of(matpowers=(1, -1))
    first, second = rng.normal(size=(2, 3, 6))
    state = spec.update_inverses(folded(spec, [first], [0.5]), 0.1)
    before = spec.get_cov(state) + 0.1 * np.eye(6)
    state = spec.update_cov(state, second, 0.5)
    now = spec.get_cov(state) + 0.1 * np.eye(6)
    assert np.max(np.abs(now - before)) > 0.1
    assert_close(spec.get_inverse(state).to_dense(), np.linalg.inv(before), 1e-12)
    assert_close(spec.get_matpower(state, 1).to_dense(), now)
    carried = spec.init_inverses(state)
    assert_close(spec.get_cov(carried), now - 0.1 * np.eye(6))
    with pytest.raises(kc.errors.NotComputedError):
        spec.get_inverse(carried)


def test_dampings_go_by_their_ids(rng):
    spec = factor_of().register_inverse("weak").register_inverse("strong")
    state = folded(spec, [rng.normal(size=(3, 6))], [0.5])
    state = spec.update_inverses(state, {"weak": 0.01, "strong": 2.0})
    for key, damping in (("weak", 0.01), ("strong", 2.0)):
        damped = spec.get_cov(state) + damping * np.eye(6)
        found = spec.get_inverse(state, key).to_dense()
        assert_close(found, np.linalg.inv(damped), 1e-12)
        assert_close(spec.get_matpower(state, 1, key).to_dense(), damped)


def test_a_hundred_thousand_columns_cost_as_their_rows():
    n, rng = 100_000, np.random.default_rng(0)
    rows, v = rng.normal(size=(8, n)), rng.normal(size=(n, 2))
    spec = factor_of(n, 8, has_bias=True, matpowers=(-1,))
    tracemalloc.start()
    try:
        state = spec.update_cov(spec.init(rows), rows, 0.5)
        state = spec.update_inverses(state, 0.1)
        inverse = spec.get_inverse(state)
        product = inverse.matmul(np.concatenate([v, np.ones((1, 2))]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * rows.nbytes
    bordered = np.concatenate([rows, np.ones((8, 1))], axis=1)
    back = bordered.T @ (bordered @ product) / 8 + 0.1 * product
    assert_close(back[:-1], v, 1e-11)


# What it refuses.


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"cholesky": ("damping",)}, "1/2"),
        ({"cholesky_inverse": ("damping",)}, "1/2"),
        ({"eigendecomposition": True}, "powers"),
        ({"zero_debias": False, "init_covariances_at_zero": False}, "identity"),
    ],
)
def test_what_is_not_served_is_refused_at_once(bad, word):
    with pytest.raises(kc.errors.ArgumentError, match=NAME) as caught:
        factor_of(**bad)
    assert word in str(caught.value)


@pytest.mark.parametrize("rows", [0, 2.5, True])
def test_a_number_of_rows_is_checked_by_the_form(rows):
    with pytest.raises(kc.errors.ArgumentError, match=r"LowRank: max_rows is"):
        kc.factors.LowRank(max_rows=rows)


def test_more_rows_than_it_keeps_are_refused(rng):
    spec = factor_of(max_rows=4)
    state = spec.init(np.zeros(1))
    for data in (
        rng.normal(size=(5, 6)),
        tuple((x,) for x in rng.normal(size=(3, 2, 6))),
    ):
        with pytest.raises(kc.errors.ShapeError, match=rf"{NAME}.*rows.*max_rows is 4"):
            spec.update_cov(state, data, 0.5)


def test_data_that_are_not_finite_are_refused(rng):
    spec, rows = factor_of(), rng.normal(size=(3, 6))
    state = folded(spec, [rows], [0.5])
    for bad in (np.nan, np.inf, 1e200):
        with (
            np.errstate(over="ignore"),
            pytest.raises(kc.errors.NotFiniteError, match=NAME),
        ):
            spec.update_cov(state, np.where(rows > 1, bad, rows), 0.5)


def test_without_damping_there_is_no_inverse_but_there_are_roots(rng):
    # As many rows as columns: the matrix itself is regular.
    spec, rows = factor_of(matpowers=(-1,)), rng.normal(size=(8, 6))
    state = folded(spec, [rows], [0.5])
    with pytest.raises(kc.errors.NotPositiveDefiniteError, match=NAME):
        spec.update_inverses(state, 0.0)
    spec = factor_of(matpowers=(0.5,))
    state = spec.update_inverses(folded(spec, [rows[:3]], [0.5]), 0.0)
    root = spec.get_matpower(state, 0.5).to_dense()
    assert_close(root @ root, spec.get_cov(state), 1e-12)


# What all factors have.


@pytest.mark.parametrize("blocks", [False, True])
def test_the_error_of_an_old_inverse_is_that_of_the_dense_matrices(blocks, rng):
    spec = factor_of(matpowers=(-1,))
    if blocks:
        spec = kc.factors.FullyConnectedKroneckerFactor(
            6, form=kc.factors.BlockDiagonal(blocks=2), matpowers=(-1,)
        )
    state = spec.update_inverses(folded(spec, [rng.normal(size=(4, 6))], [0.5]), 0.1)
    assert float(spec.inverse_error(state, 0.1)) <= 1e-12
    inverse = spec.get_inverse(state).to_dense()
    state = spec.update_cov(state, rng.normal(size=(4, 6)), 0.9)
    residual = np.eye(6) - (spec.get_cov(state) + 0.2 * np.eye(6)) @ inverse
    expected = np.abs(np.linalg.eigvals(residual)).max()
    found = float(spec.inverse_error(state, 0.2))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_inverses_can_be_computed_in_float64(rng):
    # As many rows as columns: the term of the damping nearly cancels.
    rows = rng.normal(size=(8, 6)).astype("float32")
    errors = []
    for dtype in (None, "float64"):
        spec = factor_of(matpowers=(-1,), inverse_dtype=dtype)
        state = spec.update_cov(spec.init(rows), rows, 0.5)
        state = spec.update_inverses(state, 1e-3)
        core = state.derived.matpowers[0]
        assert core.dtype == np.float32
        exact = rows.astype("float64") / 8**0.5
        gram = exact @ exact.T
        # The core is that of rows whose matrix has trace one.
        exact = -np.linalg.inv(gram + 1e-3 * np.eye(8)) / 1e-3 * np.trace(gram)
        errors.append(np.abs(core - exact).max() / np.abs(exact).max())
    assert errors[1] < 1e-6 < errors[0]


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e12])
@pytest.mark.parametrize("exp", [-1.0, -0.5])
def test_rows_of_any_scale_have_powers_in_range(plain_library, rng, scale, exp):
    rows = (rng.normal(size=(3, 5)) * scale).astype(np.float32)
    damping = np.float32(0.01 * scale**2)
    spec = kc.factors.FullyConnectedKroneckerFactor(
        5, form=kc.factors.LowRank(max_rows=3), matpowers=(exp,)
    )
    x = plain_library.asarray(rows)
    state = spec.update_inverses(spec.update_cov(spec.init(x), x, 0.5), damping)
    served = plain_library.to_numpy(spec.get_matpower(state, exp).to_dense())
    wide = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(wide.T @ wide / 3 + float(damping) * np.eye(5))
    exact = vectors * values**exp @ vectors.T
    condition = values[-1] / values[0]
    bound = 20 * np.finfo(np.float32).eps * condition
    assert np.linalg.norm(served - exact) <= bound * np.linalg.norm(exact)


def test_a_damping_below_the_rounding_of_the_trace_is_refused(rng):
    x = rng.normal(size=(64, 500)).astype(np.float32)
    spec = kc.factors.FullyConnectedKroneckerFactor(
        500, form=kc.factors.LowRank(max_rows=64), matpowers=(-1,)
    )
    state = spec.update_cov(spec.init(x), x, 0.5)
    with pytest.raises(kc.errors.NotPositiveDefiniteError, match="damping"):
        spec.update_inverses(state, 1e-6)
    inverse = spec.get_inverse(spec.update_inverses(state, 1e-2)).to_dense()
    assert np.linalg.eigvalsh(inverse.astype(np.float64))[0] > 0


def test_a_batch_without_weight_takes_the_place_of_none(plain_library, rng):
    x = plain_library.asarray(rng.normal(size=(2, 3)))
    spec = kc.factors.FullyConnectedKroneckerFactor(
        3, form=kc.factors.LowRank(max_rows=2)
    )
    state = spec.update_cov(spec.init(x), x, 0.9)
    cov = plain_library.to_numpy(spec.get_cov(state))
    later = spec.update_cov(state, x * 5, 0.9, 0.0)
    np.testing.assert_allclose(plain_library.to_numpy(spec.get_cov(later)), cov)


@pytest.mark.parametrize("size", [0.0, 1e-23, 1e-20, 1e-15, 1e-8, 1e-3])
def test_rows_far_below_the_damping_leave_the_damping(plain_library, size):
    """Whatever the trace, ``inv(C + damping I) v`` is ``v / damping`` to rounding."""
    library = plain_library
    factor = kc.factors.FullyConnectedKroneckerFactor(
        6, form=kc.factors.LowRank(max_rows=3), matpowers=(-1, -2, -0.5)
    )
    x = library.asarray(np.full((3, 6), size, np.float32))
    state = factor.update_cov(factor.init(x), x, ema_decay=0.0)
    damping, v = np.float32(1e-3), np.ones((6, 1), np.float32)
    state = factor.update_inverses(state, damping)
    for exp in (-1, -2, -0.5):
        got = factor.left_multiply_matpower(state, library.asarray(v), exp)
        # All of ``v`` lies along the rows, whose eigenvalue is six squares.
        expected = (np.float64(damping) + 6 * np.float64(np.float32(size)) ** 2) ** exp
        error = np.abs(library.to_numpy(got) / expected - 1).max()
        assert error <= 32 * np.finfo(np.float32).eps
