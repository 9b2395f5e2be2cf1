"""Factors of shared layers: lag zero and one, in every form of data."""

import numpy as np
import pytest
from factor_case import leaves
from refusals import NAME, Refusal

import kfac_core as kc
from kfac_core.contrib.original_specs import DenseWithSignlessLag

T, N = 3, 4
DAMPING = 0.3


def with_one(x):
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


def moments(x):
    """Return C0 and C1 of ``[T, N, n]``, one pair of rows after the other."""
    uses, cases, n = x.shape
    c0, c1 = np.zeros((n, n)), np.zeros((n, n))
    for t in range(uses):
        for case in range(cases):
            c0 += np.outer(x[t, case], x[t, case])
            if t > 0:
                c1 += np.outer(x[t, case], x[t - 1, case])
    return c0 / (uses * cases), c1 / (uses * cases)


def forms(x, asarray):
    """Return one tower in the three forms."""
    return {
        "folded": asarray(x.reshape(-1, x.shape[-1])),
        "stacked": asarray(x),
        "uses": kc.Uses(tuple(map(asarray, x))),
    }


def updated(spec, data, like):
    return spec.update_cov(spec.init(like), data, ema_decay=0.5)


@pytest.mark.parametrize("has_bias", [False, True])
def test_every_form_of_the_data_gives_the_moments(library, has_bias, rng):
    x = rng.normal(size=(T, N, 2))
    expected = moments(with_one(x) if has_bias else x)
    for name, data in forms(x, library.asarray).items():
        uses = T if name == "folded" else None
        spec = kc.factors.FullyConnectedMultiKF(2, has_bias, uses, cov_dt1=True)
        state = updated(spec, data, library.asarray(x))
        found = spec.get_cov(state), spec.get_cov_dt1(state)
        for matrix, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(library.to_numpy(matrix), wanted, atol=1e-14)


def test_towers_are_weighted_by_their_rows_and_sources_add(plain_library, rng):
    library = plain_library
    x, y = rng.normal(size=(2, T, N, 2))
    spec = kc.factors.FullyConnectedMultiKF(2, True, T, cov_dt1=True)
    of_x, of_y = (forms(z, library.asarray) for z in (x, y))
    towers = (library.asarray(x[:, :1]), kc.Uses(tuple(map(library.asarray, x[:, 1:]))))
    state = updated(spec, (towers, (of_y["folded"],)), of_x["stacked"])
    expected = np.add(moments(with_one(x)), moments(with_one(y)))
    np.testing.assert_allclose(library.to_numpy(spec.get_cov(state)), expected[0])
    found = library.to_numpy(spec.get_cov_dt1(state))
    np.testing.assert_allclose(found, expected[1], atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"zero_debias": False}])
def test_both_lags_are_averaged_alike(options, rng):
    x, y = rng.normal(size=(2, T, N, 2))
    spec = kc.factors.FullyConnectedMultiKF(2, cov_dt1=True, **options)
    state = spec.update_cov(spec.init(x), x, 0.9, 0.3)
    state = spec.update_cov(state, y, 0.8, 0.5)
    weights = np.asarray([0.3 * 0.8, 0.5])
    total = weights.sum() + (0.9 * 0.8 if options else 0)
    for found, lag in ((spec.get_cov(state), 0), (spec.get_cov_dt1(state), 1)):
        samples = np.asarray([moments(x)[lag], moments(y)[lag]])
        wanted = np.tensordot(weights, samples, 1) / total
        np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_one_use_has_no_lag_and_no_number_of_uses_is_needed_without(rng):
    x = rng.normal(size=(1, N, 2))
    spec = kc.factors.FullyConnectedMultiKF(2, True, 1, cov_dt1=True)
    for data in forms(x, np.asarray).values():
        np.testing.assert_array_equal(spec.get_cov_dt1(updated(spec, data, x)), 0)
    plain, basic = (
        kc.factors.FullyConnectedMultiKF(2),
        kc.factors.FullyConnectedKroneckerFactor(2),
    )
    np.testing.assert_array_equal(
        plain.get_cov(updated(plain, x[0], x)), basic.get_cov(updated(basic, x[0], x))
    )


def spec_of_options(**options):
    spec = kc.factors.FullyConnectedMultiKF(3, True, T, **options)
    return spec.register_option1quants("a").register_option2quants("b")


def alternating(rng):
    """Draw uses of which each is about the negative of the one before."""
    signs = np.asarray([1, -1, 1])[:, None, None]
    return signs * (rng.normal(size=(1, N, 3)) + 0.2 * rng.normal(size=(T, N, 3)))


def test_the_quantities_are_those_of_the_whitened_lag(library, rng):
    x = alternating(rng)
    c0, c1 = moments(with_one(x))
    spec = spec_of_options()
    state = updated(spec, library.asarray(x), library.asarray(x))
    state = spec.update_inverses(state, {"a": 2 * DAMPING, "b": DAMPING})
    lmat, psi = map(library.to_numpy, spec.get_option1quants(state, "a"))
    pmat, kmat, mu = map(library.to_numpy, spec.get_option2quants(state, "b"))
    first, second = (c0 + d * np.eye(4) for d in (2 * DAMPING, DAMPING))
    np.testing.assert_allclose(lmat @ lmat.T, np.linalg.inv(first), atol=1e-12)
    np.testing.assert_allclose(
        lmat.T @ ((c1 + c1.T) / 2) @ lmat, np.diag(psi), atol=1e-12
    )
    assert psi.min() < -0.1  # the sign is kept
    np.testing.assert_allclose(pmat, np.linalg.solve(second, c1).T, atol=1e-12)
    np.testing.assert_allclose(kmat @ kmat.T, np.linalg.inv(second), atol=1e-12)
    gram = kmat.T @ c1.T @ np.linalg.solve(second, c1) @ kmat
    np.testing.assert_allclose(gram, np.diag(mu), atol=1e-12)
    signless = spec_of_options(form=DenseWithSignlessLag())
    state = updated(signless, library.asarray(x), library.asarray(x))
    state = signless.update_inverses(state, DAMPING)
    assert library.to_numpy(signless.get_option1quants(state, "a").psi).min() >= 0


def test_float32_keeps_its_digits(rng):
    x = alternating(rng)
    found = {}
    for dtype in ("float32", "float64"):
        spec = kc.factors.FullyConnectedMultiKF(
            3, option1quants=("a",), option2quants=("a",)
        )
        state = updated(spec, x.astype(dtype), x.astype(dtype))
        state = spec.update_inverses(state, DAMPING)
        mu, psi = spec.get_option2quants(state, "a").mu, state.extra.option1[0].psi
        assert mu.dtype == psi.dtype == dtype
        found[dtype] = np.concatenate([mu, psi])
    condition = 1 + np.trace(moments(x)[0]) / DAMPING
    bound = 4 * np.finfo("float32").eps * condition
    assert np.max(np.abs(found["float32"] - found["float64"])) < bound


def test_quantities_are_snapshots_and_statistics_come_along(rng):
    x = alternating(rng)
    spec = spec_of_options()
    state = spec.update_inverses(updated(spec, x, x), DAMPING)
    later = spec.update_cov(state, 2 * x, 0.5)
    for new, old in zip(leaves(later.extra[1:]), leaves(state.extra[1:]), strict=True):
        np.testing.assert_array_equal(new, old)
    more = spec.register_option1quants("c").register_inverse("c")
    renewed = more.init_inverses(state)
    np.testing.assert_array_equal(more.get_cov_dt1(renewed), spec.get_cov_dt1(state))
    renewed = more.update_inverses(renewed, DAMPING)
    np.testing.assert_array_equal(
        more.get_option1quants(renewed, "c").psi, spec.get_option1quants(state, "a").psi
    )


def test_bad_data_are_refused(library, rng):
    x = rng.normal(size=(T, N, 2))
    spec = kc.factors.FullyConnectedMultiKF(2, cov_dt1=True, name=NAME)
    of_three = kc.factors.FullyConnectedMultiKF(2, num_uses=T, name=NAME)
    data = forms(x, library.asarray)
    state = spec.init(data["stacked"])
    for refused, make, given, words in (
        (kc.errors.ArgumentError, spec, data["folded"], ("num_uses", "tensors")),
        (kc.errors.ArgumentError, of_three, library.asarray(x[:2]), ("2", "num_uses")),
        (
            kc.errors.ArgumentError,
            of_three,
            kc.Uses(data["uses"].arrays[:2]),
            ("2 uses",),
        ),
        (kc.errors.ShapeError, of_three, data["folded"][:-1, :], ("11", "multiple")),
        (kc.errors.ShapeError, of_three, data["folded"][:0, :], ("no rows",)),
        (kc.errors.ShapeError, spec, library.asarray(x[:0]), ("at least one use",)),
        (kc.errors.ShapeError, spec, kc.Uses(()), ("at least one",)),
        (kc.errors.ShapeError, spec, library.asarray(x[..., :1]), ("2",)),
        (kc.errors.ShapeError, spec, library.asarray(x[None]), ("axes",)),
        (
            kc.errors.ShapeError,
            spec,
            kc.Uses((library.asarray(x[0]), library.asarray(x[1, 1:]))),
            ("one shape",),
        ),
    ):
        own = state if make is spec else make.init(data["stacked"])
        Refusal(library, refused, ValueError, *words)(
            own, lambda m=make, s=own, g=given: m.update_cov(s, g, 0.5)
        )
    bad = np.where(x > 1, np.nan, x)
    Refusal(library, kc.errors.NotFiniteError, ValueError, "tensors")(
        state, lambda: spec.update_cov(state, library.asarray(bad), 0.5)
    )
    with pytest.raises(kc.errors.ArgumentError, match="num_uses is 0"):
        kc.factors.FullyConnectedMultiKF(2, num_uses=0)


def test_what_is_not_kept_is_not_served(library, rng):
    x = library.asarray(rng.normal(size=(T, N, 2)))
    without = kc.factors.FullyConnectedMultiKF(2, name=NAME, matpowers=(-1,))
    spec = without.register_cov_dt1()
    of_other = updated(without, x, x)
    state = spec.update_inverses(updated(spec, x, x), DAMPING)
    refused = Refusal(library, kc.errors.NotRegisteredError, KeyError)
    refused(of_other, lambda: without.get_cov_dt1(of_other))
    refused(state, lambda: spec.get_option1quants(state))
    refused(state, lambda: spec.get_option2quants(state))
    refused = Refusal(library, kc.errors.ShapeError, ValueError, "lag one")
    refused(of_other, lambda: spec.get_cov(of_other))
    refused(of_other, lambda: spec.init_inverses(of_other))
    options = spec.register_option2quants()
    refused = Refusal(library, kc.errors.ShapeError, ValueError, "init_inverses")
    refused(state, lambda: options.get_option2quants(state))
    fresh = options.init_inverses(state)
    refused = Refusal(
        library, kc.errors.NotComputedError, RuntimeError, "update_inverses"
    )
    refused(fresh, lambda: options.get_option2quants(fresh))
    zero = updated(options, x * 0, x)
    refused = Refusal(
        library, kc.errors.NotPositiveDefiniteError, np.linalg.LinAlgError, "damping 0"
    )
    refused(zero, lambda: options.update_inverses(zero, 0.0))


@pytest.mark.parametrize("has_bias", [False, True])
def test_diagonal_factors_are_the_diagonal_of_the_dense(library, has_bias, rng):
    x = rng.normal(size=(T, N, 2))
    rows = library.asarray(x.reshape(-1, 2))
    dense = kc.factors.FullyConnectedKroneckerFactor(2, has_bias)
    wanted = np.diag(library.to_numpy(dense.get_cov(updated(dense, rows, rows))))
    single = kc.factors.DiagonalKroneckerFactor(2, has_bias, matpowers=(-0.5,))
    multi = kc.factors.DiagonalMultiKF(2, has_bias, T, matpowers=(-0.5,))
    cases = [(single, rows), *((multi, d) for d in forms(x, library.asarray).values())]
    for spec, data in cases:
        state = spec.update_inverses(updated(spec, data, rows), DAMPING)
        found = library.to_numpy(spec.get_cov_var(state))
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
        power = library.to_numpy(spec.get_matpower(state, -0.5).to_dense())
        np.testing.assert_allclose(power, np.diag((wanted + DAMPING) ** -0.5))


def test_one_trace_serves_and_nan_leaves_both_lags(jax, rng):
    x = jax.numpy.asarray(alternating(rng))
    spec = spec_of_options()
    traces = []

    @jax.jit
    def step(state, x, decay, damping):
        traces.append(1)
        return spec.update_inverses(spec.update_cov(state, x, decay), damping)

    state = step(spec.init(x), x, 0.5, 0.3)
    after = step(state, 2 * x, 0.9, 0.1)
    eager = spec.update_inverses(spec.update_cov(state, 2 * x, 0.9), 0.1)
    for found, wanted in zip(leaves(after.extra), leaves(eager.extra), strict=True):
        np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-12)
    kept = step(after, x * jax.numpy.nan, 0.9, 0.1)
    assert len(traces) == 1
    assert not bool(kept.ok)
    np.testing.assert_array_equal(kept.extra.cov_dt1[0], after.extra.cov_dt1[0])
