"""Rows that count more or less than others, and cases that never reach a factor."""

import numpy as np
import pytest
from factor_case import NumPy, tree
from factor_cases import BATCHED

import kfac_core as kc
from kfac_core.statistics.patches.second_moment import patch_rows

MASK = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
TIMES = np.asarray([2.0, 0.0, 1.0, 3.0])


def matrix(library, spec, state):
    return library.to_numpy(spec.get_cov(state))


def updated(library, case, spec, data, **options):
    return matrix(library, spec, case.updated(library, spec, data, **options))


def poisoned(case, data):
    """Return data with NaN in all that weighs nothing."""

    def poison(x):
        if x.dtype.kind != "f":
            return x
        shape = [1] * x.ndim
        shape[case.axis] = len(MASK)
        return np.where(MASK.reshape(shape) > 0, x, np.nan)

    return tree(poison, data)


def close(found, expected):
    atol = 1e-13 * max(np.abs(expected).max(), 1e-300)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=atol)


@pytest.mark.parametrize("name", BATCHED)
def test_rows_of_weight_zero_count_as_if_they_were_dropped(library, name, rng):
    case = BATCHED[name]
    data, spec = case.draw(rng, len(MASK)), case.make()
    found = updated(
        library, case, spec, poisoned(case, data), weights=library.asarray(MASK)
    )
    kept = case.chosen(data, np.flatnonzero(MASK))
    close(found, updated(library, case, spec, kept, num_cases=len(MASK)))


@pytest.mark.parametrize("name", BATCHED)
def test_a_row_of_weight_two_counts_as_two_rows(name, rng):
    case = BATCHED[name]
    data, spec = case.draw(rng, len(TIMES)), case.make()
    found = updated(NumPy, case, spec, data, weights=TIMES)
    repeated = case.chosen(data, np.repeat(np.arange(len(TIMES)), TIMES.astype(int)))
    close(found, updated(NumPy, case, spec, repeated, num_cases=len(TIMES)))
    assert not np.allclose(found, updated(NumPy, case, spec, data))


# Uncorrelated pixels are not linear in their statistics.
@pytest.mark.parametrize("name", [name for name in BATCHED if name != "pixels"])
def test_a_fraction_counts_as_a_fraction_of_a_row(name, rng):
    case = BATCHED[name]
    data, spec = case.draw(rng, len(TIMES)), case.make()
    whole = updated(NumPy, case, spec, data, weights=TIMES)
    # A quarter of each row is a quarter of the sum.
    quarter = updated(NumPy, case, spec, data, weights=TIMES / 4, num_cases=1)
    expected = whole if spec.form.is_mean_by_weight else whole * len(TIMES) / 4
    close(quarter, expected)


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_ones_of_any_kind_are_no_weights(name, dtype, rng):
    case = BATCHED[name]
    data, spec = case.draw(rng, 4), case.make()
    found = updated(NumPy, case, spec, data, weights=np.ones(4, dtype))
    close(found, updated(NumPy, case, spec, data))


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_of_weight_zero_is_a_batch(library, name, rng):
    case = BATCHED[name]
    data, spec = case.draw(rng, 4), case.make(matpowers=(-1,))
    none = library.asarray(np.zeros(4))
    state = case.updated(library, spec, data, weights=none)
    close(matrix(library, spec, state), 0.0)
    state = library.compiled(spec.update_inverses)(state, 0.5)
    inverse = library.to_numpy(spec.get_inverse(state).to_dense())
    close(inverse, 2.0 * np.broadcast_to(np.eye(inverse.shape[-1]), inverse.shape))


@pytest.mark.parametrize("name", BATCHED)
def test_towers_have_weights_of_their_own(name, rng):
    case = BATCHED[name]
    data, spec = case.draw(rng, len(MASK)), case.make()
    found = updated(
        NumPy, case, spec, case.split(data, (2,)), weights=(MASK[:2], MASK[2:])
    )
    close(found, updated(NumPy, case, spec, data, weights=MASK))


@pytest.mark.parametrize("name", BATCHED)
def test_a_stream_is_the_same_with_rows_dropped(name, rng):
    case = BATCHED[name]
    spec = case.make()
    masked = dropped = spec.init(np.zeros(1))
    for weights in (MASK, 1 - MASK, np.ones(6)):
        data = case.draw(rng, 6)
        kept = case.chosen(data, np.flatnonzero(weights))
        masked = case.fold(NumPy, spec, masked, data, weights=weights)
        dropped = case.fold(NumPy, spec, dropped, kept, num_cases=6)
    close(spec.get_cov(masked), spec.get_cov(dropped))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", BATCHED)
def test_weights_out_of_range_are_refused(library, name, bad, rng):
    case = BATCHED[name]
    spec, data = case.make(name="layer"), case.draw(rng, 4)
    state = library.moved(spec.init(np.zeros(1)))
    weights = library.asarray(np.asarray([1.0, 1.0, 1.0, bad]))
    with pytest.raises(kc.errors.ArgumentError, match="layer: weights holds"):
        case.fold(library, spec, state, data, weights=weights)


@pytest.mark.parametrize("name", BATCHED)
def test_weights_of_another_form_are_refused(name, rng):
    case = BATCHED[name]
    spec, data = case.make(name="layer"), case.draw(rng, 4)
    for weights in (
        np.ones(5),
        np.ones(()),
        np.ones((4, 1)),
        (np.ones(2), np.ones(2)),
    ):
        with pytest.raises(kc.errors.ShapeError, match="layer: weights has"):
            updated(NumPy, case, spec, data, weights=weights)
    with pytest.raises(kc.errors.DTypeError, match="layer: weights has dtype"):
        updated(NumPy, case, spec, data, weights=np.ones(4, complex))
    for weights in ("mask", [1.0], {}):
        with pytest.raises(kc.KfacError, match="layer: weights"):
            updated(NumPy, case, spec, data, weights=weights)


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("number", [0, -1, np.nan])
def test_a_number_of_cases_that_is_not_positive_is_refused(name, number, rng):
    case = BATCHED[name]
    spec, data = case.make(name="layer"), case.draw(rng, 4)
    with pytest.raises(kc.errors.ArgumentError, match="layer: num_cases is"):
        updated(NumPy, case, spec, data, num_cases=number)


@pytest.mark.parametrize("name", ["patches", "patches-bias-channels-first"])
def test_locations_have_weights(library, name, rng):
    case = BATCHED[name]
    data, spec = case.draw(rng, 3), case.make()
    window = spec.geometry.window
    spatial = window.output_spatial(window.spatial_of(data[0]))
    weights = rng.uniform(size=(3, *spatial)).round(1)
    found = updated(library, case, spec, data, weights=library.asarray(weights))
    flat = weights.reshape(3, -1)
    close(updated(library, case, spec, data, weights=library.asarray(flat)), found)
    # The patches one by one, each a case whose only location counts.
    total = 0
    for place in range(flat.shape[1]):
        alone = np.zeros_like(flat)
        alone[:, place] = flat[:, place]
        total = total + updated(
            library, case, spec, data, weights=library.asarray(alone)
        )
    close(total, found)
    only = np.zeros_like(flat)
    only[:, 0] = 1
    patches = patch_rows(kc.backend_of(data[0]), data[0], window)[:, 0, :]
    if spec.has_bias:
        patches = np.concatenate([patches, np.ones((3, 1))], axis=1)
    first = updated(library, case, spec, data, weights=library.asarray(only))
    close(first, patches.T @ patches / flat.size)


@pytest.mark.parametrize("form", ["case", "flat", "uses", "axes"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lagged", [False, True])
def test_uses_have_weights(lagged, batch_first, form, rng):
    spec = kc.factors.FullyConnectedMultiKF(
        2, True, num_uses=3, cov_dt1=lagged, batch_first=batch_first
    )
    x, w = rng.normal(size=(3, 4, 2)), np.asarray([1.0, 0.0, 2.0, 0.5])
    weights = np.broadcast_to(w, (3, 4)).copy()
    if form != "case":
        weights = rng.uniform(size=(3, 4))
    rows = np.concatenate([x, np.ones((3, 4, 1))], axis=2)
    expected = np.einsum("tn,tni,tnj->ij", weights, rows, rows) / 12
    roots = np.sqrt(weights)[..., None] * rows
    given = {
        "case": w,
        "flat": (weights.T if batch_first else weights).reshape(-1),
        "axes": weights.T if batch_first else weights,
        "uses": kc.Uses(tuple(weights)),
    }[form]
    for data in (kc.Uses(tuple(x)), np.swapaxes(x, 0, 1) if batch_first else x):
        state = spec.update_cov(spec.init(x), data, ema_decay=0.0, weights=given)
        close(spec.get_cov(state), expected)
        if lagged:
            found = spec.get_cov_dt1(state)
            close(found, np.einsum("tni,tnj->ij", roots[1:], roots[:-1]) / 12)


@pytest.mark.parametrize("ids", [[0, 2, -1, 2], [[0, -1], [2, 2], [-1, -1], [2, -7]]])
def test_ids_below_zero_are_padding_by_option(library, ids):
    ids = library.asarray(np.asarray(ids))
    plain = kc.factors.EmbeddingInputKroneckerFactor(3, name="layer")
    with pytest.raises(kc.errors.ArgumentError, match="layer: input_ids are from -"):
        plain.update_cov(plain.init(ids), ids, ema_decay=0.0)
    spec = kc.factors.EmbeddingInputKroneckerFactor(3, negative_ids_are_padding=True)
    state = spec.update_cov(spec.init(ids), ids, ema_decay=0.0)
    close(library.to_numpy(spec.get_cov_var(state)), [0.25, 0.0, 0.5])


def test_an_id_is_padding_by_option(library):
    ids = library.asarray(np.asarray([0, 2, 1, 2]))
    spec = kc.factors.EmbeddingInputKroneckerFactor(3, padding_id=2)
    state = spec.update_cov(spec.init(ids), ids, ema_decay=0.0)
    close(library.to_numpy(spec.get_cov_var(state)), [0.25, 0.25, 0.0])
    with pytest.raises(
        kc.errors.ArgumentError, match="padding_id is 3, expected None or"
    ):
        kc.factors.EmbeddingInputKroneckerFactor(3, padding_id=3)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_ids_of_cases_of_weight_zero_are_not_judged(library, dtype):
    ids = np.asarray([[0, 2], [7, 1], [1, 1], [99, 200]]).astype(dtype)
    weights = library.asarray(np.asarray([1.0, 0.0, 1.0, 0.0]))
    spec = kc.factors.EmbeddingInputKroneckerFactor(3, repeated_ids="count_squared")
    empty = spec.init(weights)
    given = library.asarray(ids)
    state = spec.update_cov(empty, given, ema_decay=0.0, weights=weights)
    close(library.to_numpy(spec.get_cov_var(state)), [0.25, 1.0, 0.25])
    with pytest.raises(kc.errors.ArgumentError, match="input_ids are from"):
        spec.update_cov(empty, given, ema_decay=0.0)
