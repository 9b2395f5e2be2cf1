"""Every statistic of rows in every form: what the form keeps of the dense matrix."""

import numpy as np
import pytest

import kfac_core as kc

NAME = "form7"
LIMIT = 1e-12
CASES, SIZE = 6, 4
GEOMETRY = kc.ConvolutionGeometry((2, 2, 1, 3), padding="SAME")

# All rows of two batches fit into the form of low rank, so that it loses nothing.
FORMS = {
    "diagonal": kc.factors.Diagonal(),
    "low rank": kc.factors.LowRank(max_rows=200),
    "blocks": kc.factors.BlockDiagonal(blocks=2),
}

# The class, its first fields, and the shape of a batch.
STATISTICS = {
    "rows": (kc.factors.FullyConnectedKroneckerFactor, (SIZE, True), (CASES, SIZE)),
    "shared": (kc.factors.FullyConnectedMultiKF, (SIZE, True, 2), (2, CASES, SIZE)),
    "bias": (kc.factors.BiasFactor, ((SIZE,),), (CASES, 3, SIZE)),
    "patches": (kc.factors.ConvInputKroneckerFactor, (GEOMETRY,), (CASES, 3, 2, 1)),
    "shared patches": (
        kc.factors.ConvInputMultiKF,
        (GEOMETRY, True, 2),
        (2, CASES, 3, 2, 1),
    ),
    "locations": (kc.factors.ConvOutputKroneckerFactor, (SIZE,), (CASES, 3, 2, SIZE)),
}


def kept(form, dense):
    """Return what a form keeps of a dense matrix."""
    if isinstance(form, kc.factors.Diagonal):
        return np.diag(np.diag(dense))
    if isinstance(form, kc.factors.BlockDiagonal):
        block = np.arange(len(dense)) // -(-len(dense) // form.blocks)
        return np.where(block[:, None] == block[None, :], dense, 0.0)
    return dense


def folded(spec, batches, asarray=np.asarray, **options):
    state = spec.init(asarray(np.zeros(1)))
    for batch in batches:
        state = spec.update_cov(state, asarray(batch), ema_decay=0.5, **options)
    return state


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("statistic", STATISTICS)
def test_it_is_what_the_form_keeps_of_the_dense_matrix(
    plain_library, statistic, form, rng
):
    make, sizes, shape = STATISTICS[statistic]
    batches = [rng.normal(size=shape), 2 * rng.normal(size=shape)]
    weights = np.asarray([1.0, 0.0, 2.0, 1.0, 0.5, 1.0])
    asarray, to_numpy = plain_library.asarray, plain_library.to_numpy
    spec = make(*sizes, form=FORMS[form], matpowers=(-1,), name=NAME)
    state = folded(spec, batches, asarray, weights=asarray(weights))
    dense = make(*sizes, name=NAME)
    whole = dense.get_cov(folded(dense, batches, weights=weights))
    if spec.form.is_mean_by_weight:
        whole = whole * CASES / weights.sum()
    expected = kept(spec.form, whole)
    found = to_numpy(spec.get_cov(state))
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMIT * whole.max())
    state = spec.update_inverses(state, 0.1)
    inverse = to_numpy(spec.get_inverse(state).to_dense())
    identity = np.eye(spec.dimension)
    np.testing.assert_allclose(
        inverse @ (expected + 0.1 * identity), identity, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_of_patches_holds_in_every_form(form, rng):
    mask = [[[1.0], [0.0]], [[2.0], [1.0]]]
    make, x = kc.factors.ConvInputKroneckerFactor, rng.normal(size=(CASES, 3, 2, 1))
    dense = make(GEOMETRY, patch_mask=mask)
    spec = make(GEOMETRY, patch_mask=mask, form=FORMS[form])
    found = spec.get_cov(folded(spec, [x]))
    expected = kept(FORMS[form], dense.get_cov(folded(dense, [x])))
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("form", FORMS)
def test_a_summed_gradient_has_every_form(form, rng):
    v = rng.normal(size=SIZE)
    spec = kc.factors.NaiveFullFactor(SIZE, form=FORMS[form])
    found = spec.get_cov(folded(spec, [v], batch_size=1))
    expected = kept(FORMS[form], np.outer(v, v))
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize(
    "form", [FORMS["diagonal"], FORMS["blocks"], kc.factors.LowRank(max_rows=CASES)]
)
def test_what_is_not_kept_is_lost(form, rng):
    x, make = rng.normal(size=(CASES, SIZE)), kc.factors.FullyConnectedKroneckerFactor
    spec, dense = make(SIZE, form=form), make(SIZE)
    found, whole = (s.get_cov(folded(s, [x, 2 * x[::-1] ** 2])) for s in (spec, dense))
    assert np.max(np.abs(found - whole)) > 0.05


REFUSED = {
    "of a diagonal": (
        lambda: kc.factors.FullyConnectedDiagonalFactor(2, 2, form=kc.factors.Dense()),
        "expected Diagonal",
    ),
    "not a form": (lambda: kc.factors.FullyConnectedKroneckerFactor(2, form=3), "Form"),
    "sampled": (
        lambda: kc.factors.ConvInputKroneckerFactor(
            GEOMETRY, sub_sample_inputs=True, form=kc.factors.Diagonal()
        ),
        "sampled",
    ),
    "with a lag": (
        lambda: kc.factors.FullyConnectedMultiKF(
            2, num_uses=2, cov_dt1=True, form=kc.factors.LowRank(max_rows=3)
        ),
        "lag one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_such_form_is_refused(name):
    make, word = REFUSED[name]
    with pytest.raises(kc.errors.ArgumentError, match=rf"form is .*{word}"):
        make()


@pytest.mark.parametrize(
    ("name", "option", "form"),
    [
        ("FullyConnectedLowRankFactor", "max_rows", kc.factors.LowRank(max_rows=3)),
        (
            "FullyConnectedBlockDiagonalFactor",
            "num_blocks",
            kc.factors.BlockDiagonal(blocks=3),
        ),
    ],
)
def test_the_old_name_of_a_factor_in_a_form_makes_the_same(name, option, form):
    with pytest.warns(DeprecationWarning, match="form="):
        make = getattr(kc.factors, name)
    new = kc.factors.FullyConnectedKroneckerFactor(9, form=form, name=NAME)
    assert make(9, name=NAME, **{option: 3}) == new
