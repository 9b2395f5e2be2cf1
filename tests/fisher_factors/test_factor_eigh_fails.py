"""An eigendecomposition that a library does not find: retried, and then told."""

import numpy as np
import pytest
from factor_case import tree
from refusals import NAME

import kfac_core as kc
from kfac_core import backend_of
from kfac_core.fisher_factors.eigenbasis import eigenvalues
from kfac_core.linalg.retry import float64_of, retried
from kfac_core.linalg.series import Option1Quants, option1_matrix

SERVED = {
    "powers": (kc.factors.FullyConnectedKroneckerFactor, {"size": 3}),
    "blocks": (
        kc.factors.FullyConnectedKroneckerFactor,
        {"size": 4, "form": kc.factors.BlockDiagonal(blocks=2)},
    ),
    "rows": (
        kc.factors.FullyConnectedKroneckerFactor,
        {"size": 9, "form": kc.factors.LowRank(max_rows=5)},
    ),
}


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.fixture(params=SERVED)
def served(request, library, rng):
    """Return a spec and a float32 state with statistics."""
    make, options = SERVED[request.param]
    spec = make(**options, name=NAME, matpowers=(-0.5,))
    x = library.asarray(rng.normal(size=(5, spec.size)).astype(np.float32))
    return spec, spec.update_cov(spec.init(x), x, 0.0)


def fails(monkeypatch, backend, *dtypes):
    """Make a library find no eigendecomposition in these dtypes."""
    known = type(backend).eigh

    def eigh(self, a):
        values, vectors = known(self, a)
        failed = float("nan") if str(a.dtype).rpartition(".")[2] in dtypes else 1.0
        return values * failed, vectors * failed

    monkeypatch.setattr(type(backend), "eigh", eigh)


def test_what_fails_in_float32_is_computed_in_float64(library, served, monkeypatch):
    spec, state = served
    backend = backend_of(state.cov.total)
    expected = spec.get_matpower(spec.update_inverses(state, 0.1), -0.5).to_dense()
    eigen = spec.get_eigendecomp(state)
    fails(monkeypatch, backend, "float32")
    power = spec.get_matpower(spec.update_inverses(state, 0.1), -0.5).to_dense()
    assert power.dtype == expected.dtype
    bound = 64 * np.finfo(np.float32).eps * np.abs(library.to_numpy(expected)).max()
    pair = library.to_numpy(power), library.to_numpy(expected)
    np.testing.assert_allclose(*pair, rtol=0, atol=bound)
    pair = (library.to_numpy(e) for e in (spec.get_eigendecomp(state)[0], eigen[0]))
    np.testing.assert_allclose(*pair, rtol=0, atol=bound)


def test_what_fails_in_float64_too_is_told(library, served, monkeypatch):
    spec, state = served
    before = tree(library.to_numpy, tuple(state.cov))
    fails(monkeypatch, backend_of(state.cov.total), "float32", "float64")
    words = rf"{NAME}.*eigendecomposition.*does not converge.*float32 and in .*float64"
    for verb in (
        lambda: spec.update_inverses(state, 0.1),
        lambda: eigen_of(spec, state),
    ):
        with pytest.raises(kc.errors.EigendecompositionError, match=words):
            verb()
    after = tree(library.to_numpy, tuple(state.cov))
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)


def eigen_of(spec, state):
    return spec.get_eigendecomp(state)


def test_a_damping_too_small_is_told_as_before(library, monkeypatch):
    x = library.asarray(np.ones((2, 3), np.float32))
    spec = kc.factors.FullyConnectedKroneckerFactor(3, name=NAME, matpowers=(-1, -0.5))
    state = spec.update_cov(spec.init(x), x, 0.0)
    with pytest.raises(kc.errors.NotPositiveDefiniteError, match="use a damping above"):
        spec.update_inverses(state, 0.0)


def test_groups_of_which_one_fails(library, rng, monkeypatch):
    spec = kc.factors.GroupedKroneckerFactor(2, 3, name=NAME, matpowers=(-0.5,))
    x = library.asarray(rng.normal(size=(5, 1, 2, 3)).astype(np.float32))
    state = spec.update_cov(spec.init(x), x, 0.0)
    expected = library.to_numpy(spec.update_inverses(state, 0.1).derived.matpowers[0])
    fails(monkeypatch, backend_of(x), "float32")
    found = library.to_numpy(spec.update_inverses(state, 0.1).derived.matpowers[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(library.to_numpy(spec.get_eigendecomp(state).values)).all()


def test_series_of_uses(library, rng, monkeypatch):
    spec = kc.factors.FullyConnectedMultiKF(3, name=NAME, option1quants=("damping",))
    x = library.asarray(rng.normal(size=(2, 5, 3)).astype(np.float32))
    state = spec.update_cov(spec.init(x), x, 0.0)
    (expected,) = spec.update_inverses(state, 0.1).extra.option1
    fails(monkeypatch, backend_of(x), "float32")
    (found,) = spec.update_inverses(state, 0.1).extra.option1
    assert isinstance(found, Option1Quants)
    pair = library.to_numpy(found.psi), library.to_numpy(expected.psi)
    np.testing.assert_allclose(*pair, atol=1e-5)


def test_the_error_of_the_library_is_the_cause(rng, monkeypatch):
    x = rng.normal(size=(5, 3))
    spec = kc.factors.FullyConnectedKroneckerFactor(3, name=NAME, matpowers=(-0.5,))
    state = spec.update_cov(spec.init(x), x, 0.0)
    cause = np.linalg.LinAlgError("Eigenvalues did not converge")

    def eigh(a, UPLO="L"):
        raise cause

    monkeypatch.setattr(np.linalg, "eigh", eigh)
    for verb in (
        lambda: spec.update_inverses(state, 0.1),
        lambda: eigen_of(spec, state),
    ):
        with pytest.raises(kc.errors.EigendecompositionError) as caught:
            verb()
        assert caught.value.__cause__ is cause


def test_traced_the_state_is_kept(jax, rng, monkeypatch):
    x = jax.numpy.asarray(rng.normal(size=(5, 3)))
    spec = kc.factors.FullyConnectedKroneckerFactor(3, matpowers=(-0.5,))
    state = spec.update_inverses(spec.update_cov(spec.init(x), x, 0.0), 0.1)
    fails(monkeypatch, backend_of(x), "float64")
    kept = jax.jit(spec.update_inverses)(state, 0.5)
    assert not kept.derived_ok
    np.testing.assert_array_equal(kept.derived.matpowers[0], state.derived.matpowers[0])


def test_without_float64_the_message_says_how_to_have_it(jax, rng, monkeypatch):
    with jax.enable_x64(False):
        x = jax.numpy.asarray(rng.normal(size=(5, 3)).astype(np.float32))
        assert float64_of(backend_of(x)) is None
        spec = kc.factors.FullyConnectedKroneckerFactor(3, matpowers=(-0.5,))
        state = spec.update_cov(spec.init(x), x, 0.0)
        fails(monkeypatch, backend_of(x), "float32")
        with pytest.raises(kc.errors.EigendecompositionError, match="jax_enable_x64"):
            spec.update_inverses(state, 0.1)


def inverse_and_state(library, rng, name):
    make, options = SERVED[name]
    spec = make(**options, name=NAME, matpowers=(-1,))
    x = library.asarray(rng.normal(size=(5, spec.size)).astype(np.float32))
    state = spec.update_cov(spec.init(x), x, 0.0)
    return spec, spec.update_inverses(state, 0.1)


@pytest.mark.parametrize("name", SERVED)
def test_the_error_of_an_inverse(library, name, rng, monkeypatch):
    spec, state = inverse_and_state(library, rng, name)
    backend = backend_of(state.cov.total)
    expected = float(spec.inverse_error(state, 0.2))
    with monkeypatch.context() as patched:
        fails(patched, backend, "float32")
        found = spec.inverse_error(state, 0.2)
    assert found.dtype == state.cov.total.dtype
    assert float(found) == pytest.approx(expected, rel=1e-4)
    fails(monkeypatch, backend, "float32", "float64")
    with pytest.raises(
        kc.errors.EigendecompositionError, match=f"{NAME}.*does not converge"
    ):
        spec.inverse_error(state, 0.2)


def test_the_error_of_the_inverses_of_groups(library, rng, monkeypatch):
    spec = kc.factors.GroupedKroneckerFactor(2, 3, name=NAME, matpowers=(-1,))
    x = library.asarray(rng.normal(size=(5, 1, 2, 3)).astype(np.float32))
    state = spec.update_inverses(spec.update_cov(spec.init(x), x, 0.0), 0.1)
    expected = library.to_numpy(spec.inverse_error(state, 0.2))
    fails(monkeypatch, backend_of(x), "float32")
    found = library.to_numpy(spec.inverse_error(state, 0.2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", SERVED)
def test_the_spectrum_that_a_summary_tells(library, name, rng, monkeypatch):
    spec, state = inverse_and_state(library, rng, name)
    backend = backend_of(state.cov.total)
    expected = library.to_numpy(eigenvalues(backend, spec, state))
    with monkeypatch.context() as patched:
        fails(patched, backend, "float32")
        found = library.to_numpy(eigenvalues(backend, spec, state))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())
    fails(monkeypatch, backend, "float32", "float64")
    with pytest.raises(kc.errors.EigendecompositionError, match=NAME):
        eigenvalues(backend, spec, state)


@pytest.mark.parametrize("option", [1, 2])
def test_a_dense_series_block(library, option, rng, monkeypatch):
    block = kc.blocks.FullyConnectedSeriesFB(2, 2, num_uses=3, option=option, name=NAME)
    x, g = (
        library.asarray(rng.normal(size=(12, 2)).astype(np.float32)) for _ in range(2)
    )
    state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
    backend = backend_of(x)
    expected = library.to_numpy(block.full_fisher_block(state))
    with monkeypatch.context() as patched:
        fails(patched, backend, "float32")
        found = library.to_numpy(block.full_fisher_block(state))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * abs(expected).max())
    fails(monkeypatch, backend, "float32", "float64")
    with pytest.raises(kc.errors.EigendecompositionError, match=NAME):
        block.full_fisher_block(state)
    if option == 1:
        # Of the statistics it is found, of what is made of them it is not.
        a = np.eye(2, dtype=np.float32)
        pair = library.asarray(a), library.asarray(a * 0)
        found, told = retried(
            backend, lambda b: option1_matrix(b, pair, pair, g[0, 0] * 0 + 3), g
        )
        assert told is not None
        assert told.failed
