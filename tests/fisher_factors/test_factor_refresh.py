"""Errors of stored inverses, inverses from the last ones, inverses in float64."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core import backend_of
from kfac_core.errors import (
    ArgumentError,
    DTypeError,
    NotComputedError,
    NotPositiveDefiniteError,
    NotRegisteredError,
)

N = 12


class NumPy:
    asarray = staticmethod(np.asarray)
    to_numpy = staticmethod(np.asarray)


def rows_of(rng, n=N, count=40, dtype="float64"):
    return (rng.normal(size=(count, n)) / (1 + np.arange(n))).astype(dtype)


def drifted(library, factor, rng, decay=0.9, damping=0.01, dtype="float64"):
    """Return a state whose inverse is of one batch, and its statistics of two."""
    shape = getattr(factor, "num_groups", None)

    def batch():
        rows = rows_of(rng, dtype=dtype)
        if shape is not None:
            rows = rows.reshape(40, 1, shape, -1)
        return library.asarray(rows)

    first = batch()
    state = factor.update_cov(factor.init(first), first, 0.5)
    state = factor.update_inverses(state, damping)
    return factor.update_cov(state, batch(), decay, 1 - decay)


def truth(matrix, inverse):
    """Return the largest absolute eigenvalue of ``I - M X``."""
    return np.abs(np.linalg.eigvals(np.eye(len(matrix)) - matrix @ inverse)).max()


def dense_error(library, factor, state, damping):
    matrix = library.to_numpy(factor.get_cov(state)) + damping * np.eye(N)
    return truth(matrix, library.to_numpy(factor.get_inverse(state).to_dense()))


DENSE = kc.factors.FullyConnectedKroneckerFactor(N, matpowers=(-1,))


def test_the_error_is_that_of_the_inverse_and_the_statistics_of_now(library, rng):
    state = drifted(library, DENSE, rng)
    for damping in (0.01, 0.05):
        error = float(library.to_numpy(DENSE.inverse_error(state, damping)))
        expected = dense_error(library, DENSE, state, damping)
        assert 0.9 * expected <= error <= expected * (1 + 1e-9)
    fresh = DENSE.update_inverses(state, 0.05)
    assert float(library.to_numpy(DENSE.inverse_error(fresh, 0.05))) < 1e-12
    # Nothing but the damping changed, and that is seen too.
    assert float(library.to_numpy(DENSE.inverse_error(fresh, 0.01))) > 0.1


def test_the_error_of_a_diagonal_is_exact(plain_library, rng):
    library = plain_library
    factor = kc.factors.DiagonalKroneckerFactor(N, matpowers=(-1,))
    state = drifted(library, factor, rng)
    error = float(library.to_numpy(factor.inverse_error(state, 0.01)))
    expected = dense_error(library, factor, state, 0.01)
    np.testing.assert_allclose(error, expected, rtol=1e-10)


def test_each_group_has_its_error(rng):
    library = NumPy
    factor = kc.factors.GroupedKroneckerFactor(3, 4, matpowers=(-1,))
    state = drifted(library, factor, rng)
    errors = library.to_numpy(factor.inverse_error(state, 0.01))
    matrices = library.to_numpy(factor.get_cov(state)) + 0.01 * np.eye(4)
    inverses = library.to_numpy(factor.get_inverse(state).to_dense())
    expected = [truth(*pair) for pair in zip(matrices, inverses, strict=True)]
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "factor",
    [
        kc.factors.ConvInputSUAKroneckerFactor(
            kc.ConvolutionGeometry((3, 2, 2), padding="SAME"), matpowers=(-1,)
        ),
        kc.factors.FullyConnectedKroneckerFactor(
            N, form=kc.factors.LowRank(max_rows=100), matpowers=(-1,)
        ),
    ],
    ids=["pixels", "low rank"],
)
def test_factors_with_structure_have_errors_by_their_products(factor, rng):
    def batch():
        shape = (40, N) if factor.dimension == N else (5, 6, 2)
        return rng.normal(size=shape)

    x = batch()
    state = factor.update_cov(factor.init(x), x, 0.5)
    assert factor.inverse_error(state, 0.1) == np.inf
    state = factor.update_inverses(state, 0.1)
    state = factor.update_cov(state, batch(), 0.9, 0.1)
    n = factor.dimension
    inverse = factor.get_inverse(state).to_dense()
    expected = truth(factor.get_cov(state) + 0.2 * np.eye(n), inverse)
    assert 0.8 * expected <= factor.inverse_error(state, 0.2) <= expected * (1 + 1e-9)


def test_the_worst_inverse_counts(rng):
    factor = kc.factors.FullyConnectedKroneckerFactor(
        N, matpowers=((-1, "a"), (-1, "b"), 1)
    )
    x = rows_of(rng)
    state = factor.update_cov(factor.init(x), x, 0.5)
    state = factor.update_inverses(state, {"a": 0.1, "b": 0.2, "damping": 0.0})
    same = {"a": 0.1, "b": 0.2, "damping": 7.0}
    assert factor.inverse_error(state, same) < 1e-12
    one = factor.inverse_error(state, same | {"b": 0.3})
    two = factor.inverse_error(state, same | {"a": 1.0, "b": 0.3})
    assert 0.1 < one < two


def test_an_error_without_an_inverse(rng):
    x = rows_of(rng)
    state = DENSE.init(x)
    with pytest.raises(ArgumentError, match="damping is -1"):
        DENSE.inverse_error(state, -1)
    state = DENSE.update_cov(state, x, 0.5)
    assert DENSE.inverse_error(state, 0.1) == np.inf
    root = kc.factors.FullyConnectedKroneckerFactor(N, matpowers=(-0.5,))
    with pytest.raises(NotRegisteredError, match="matpower -1"):
        root.inverse_error(root.update_cov(root.init(x), x, 0.5), 0.1)


# Inverses from the last ones.


def factorisations(monkeypatch):
    """Return a list that grows with each Cholesky factorisation of NumPy's."""
    calls, backend = [], type(backend_of(np.zeros(1)))
    for name in dir(backend):
        if name in ("cholesky", "damped_inverse"):
            original = getattr(backend, name)

            def counted(self, *args, _original=original, **kwargs):
                calls.append(1)
                return _original(self, *args, **kwargs)

            monkeypatch.setattr(backend, name, counted)
    return calls


@pytest.mark.parametrize("groups", [None, 3])
def test_a_near_inverse_becomes_a_good_one_without_a_factorisation(
    groups, rng, monkeypatch
):
    options = {"matpowers": (-1,), "newton_steps": 4}
    factor = (
        kc.factors.FullyConnectedKroneckerFactor(N, **options)
        if groups is None
        else kc.factors.GroupedKroneckerFactor(groups, N // groups, **options)
    )
    state = drifted(NumPy, factor, rng, decay=0.99)
    calls = factorisations(monkeypatch)
    new = factor.update_inverses(state, 0.01)
    assert not calls
    inverse = factor.get_inverse(new).to_dense()
    np.testing.assert_array_equal(inverse, np.swapaxes(inverse, -1, -2))
    matrix = factor.get_cov(new) + 0.01 * np.eye(inverse.shape[-1])
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-10, atol=1e-10)
    assert bool(new.ok)
    assert new.derived.dampings[0].max() == 0.01


def test_a_far_inverse_is_left_for_a_factorisation(library, rng):
    factor = kc.factors.FullyConnectedKroneckerFactor(
        N, matpowers=(-1,), newton_steps=2
    )
    state = drifted(library, factor, rng, decay=0.1)
    new, other = (f.update_inverses(state, 0.01) for f in (factor, DENSE))
    for x, y in zip(new.derived, other.derived, strict=True):
        for one, two in zip(x, y, strict=True):
            np.testing.assert_array_equal(library.to_numpy(one), library.to_numpy(two))


def test_too_few_steps_are_not_accepted(rng, monkeypatch):
    state = drifted(NumPy, DENSE, rng)
    assert 0.01 < DENSE.inverse_error(state, 0.01) < 0.9
    calls = factorisations(monkeypatch)
    for steps, expected in ((1, 1), (6, 0)):
        factor = kc.factors.FullyConnectedKroneckerFactor(
            N, matpowers=(-1,), newton_steps=steps
        )
        calls.clear()
        new = factor.update_inverses(state, 0.01)
        assert bool(calls) is bool(expected)
        matrix = factor.get_cov(new) + 0.01 * np.eye(N)
        inverse = factor.get_inverse(new).to_dense()
        np.testing.assert_allclose(matrix @ inverse, np.eye(N), atol=1e-11)


def test_single_precision_loses_nothing_to_speak_of(rng):
    """Ten times the error of a factorisation at most, where the steps are accepted."""
    size, errors = 64, []
    for steps in (0, 3):
        factor = kc.factors.FullyConnectedKroneckerFactor(
            size, matpowers=(-1,), newton_steps=steps
        )
        draw = np.random.default_rng(2)
        x, more = (rows_of(draw, size, 300, "float32") for _ in range(2))
        state = factor.update_cov(factor.init(x), x, 0.5)
        state = factor.update_inverses(state, 0.01)
        state = factor.update_cov(state, more, 0.99, 0.01)
        assert 0.001 < factor.inverse_error(state, 0.01) < 0.1
        state = factor.update_inverses(state, 0.01)
        matrix = factor.get_cov(state).astype(float) + 0.01 * np.eye(size)
        inverse = factor.get_inverse(state).to_dense()
        errors.append(truth(matrix, inverse.astype(float)))
    assert 0 < errors[1] != errors[0] < 2e-6
    assert errors[1] < 10 * errors[0]


def test_an_indefinite_matrix_is_refused_as_ever(rng):
    factor = kc.factors.FullyConnectedKroneckerFactor(
        N, matpowers=(-1,), newton_steps=2
    )
    state = drifted(NumPy, factor, rng)
    zero = np.zeros((2, N))
    state = factor.update_cov(state, zero, 0.0)
    with pytest.raises(NotPositiveDefiniteError):
        factor.update_inverses(state, 0.0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"newton_steps": -1}, "not negative"),
        ({"newton_steps": 1.5}, "integer"),
        ({"newton_steps": 1, "cholesky": ("damping",)}, "newton_steps at 0"),
        ({"newton_steps": 1, "cholesky_inverse": ("damping",)}, "newton_steps at 0"),
        ({"newton_steps": 1, "eigendecomposition": True}, "newton_steps at 0"),
        ({"newton_steps": 1, "matpowers": (-1, -0.5)}, "newton_steps at 0"),
        ({"inverse_dtype": "float16"}, "expected 'float64' or None"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(options, word):
    with pytest.raises(ArgumentError, match=word) as caught:
        kc.factors.FullyConnectedKroneckerFactor(3, name="fc1", **options)
    assert "fc1" in str(caught.value)


# Inverses in float64.


def ill_conditioned(rng, library, **options):
    """Return a factor and its state, in float32 and of condition 1e7."""
    scales = np.sqrt(np.logspace(0, -7, N))
    basis = np.linalg.qr(rng.normal(size=(N, N)))[0]
    x = (np.linalg.qr(rng.normal(size=(50, N)))[0] * scales) @ basis
    factor = kc.factors.FullyConnectedKroneckerFactor(N, **options)
    rows = library.asarray(x.astype(np.float32))
    return factor, factor.update_cov(factor.init(rows), rows, 0.5)


@pytest.mark.parametrize("exp", [-1, -0.5])
def test_float64_inverts_what_float32_cannot(plain_library, exp, rng):
    library, damping = plain_library, 2.0**-40
    errors = []
    for dtype in ("float64", None):
        factor, state = ill_conditioned(
            np.random.default_rng(1), library, matpowers=(exp,), inverse_dtype=dtype
        )
        state = factor.update_inverses(state, damping)
        power = library.to_numpy(factor.get_matpower(state, exp).to_dense())
        assert power.dtype == np.float32
        assert state.derived.dampings[0].dtype == state.cov.total.dtype
        matrix = library.to_numpy(factor.get_cov(state)).astype(float)
        values, vectors = np.linalg.eigh(matrix + damping * np.eye(N))
        exact = (vectors * values**exp) @ vectors.T
        errors.append(np.abs(power - exact).max() / np.abs(exact).max())
    assert errors[0] < 2e-7
    # Some libraries find eigenvalues far below the rounding of the largest.
    if exp == -1:
        assert errors[1] > 1e-4


def test_everything_that_is_derived_keeps_its_dtype(rng):
    library = NumPy
    served = {
        "matpowers": (-1, 0.3),
        "cholesky": ("damping",),
        "cholesky_inverse": ("damping",),
        "eigendecomposition": True,
    }
    factors = [
        kc.factors.FullyConnectedKroneckerFactor(N, inverse_dtype="float64", **served),
        kc.factors.DiagonalKroneckerFactor(N, inverse_dtype="float64", **served),
        kc.factors.GroupedKroneckerFactor(3, 4, inverse_dtype="float64", **served),
    ]
    for factor in factors:
        state = drifted(library, factor, rng, dtype="float32")
        expected = state.cov.total.dtype
        for field in state.derived:
            for x in field:
                parts = x if isinstance(x, tuple) else (x,)
                assert all(part.dtype == expected for part in parts)
        again = factor.update_inverses(state, 0.01)
        assert bool(library.to_numpy(again.ok))


def test_jax_without_float64_says_so(rng):
    jax = pytest.importorskip("jax")
    factor = kc.factors.FullyConnectedKroneckerFactor(
        3, name="fc1", matpowers=(-1,), inverse_dtype="float64"
    )
    with jax.enable_x64(False):
        x = jax.numpy.ones((4, 3))
        state = factor.update_cov(factor.init(x), x, 0.5)
        with pytest.raises(
            DTypeError, match=r"inverse_dtype.*jax_enable_x64"
        ) as caught:
            factor.update_inverses(state, 0.1)
    assert "fc1" in str(caught.value)


def test_statistics_come_first(rng):
    with pytest.raises(NotComputedError):
        DENSE.update_inverses(DENSE.init(np.zeros(1)), 0.1)
