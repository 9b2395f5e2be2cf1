"""Statistics of a share of the cases have the expectation of those of all."""

import numpy as np
import pytest
from estimator_cases import CASES, CATEGORICAL, NORMAL, assert_close, draw, moved

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import ArgumentError
from kfac_core.estimator.sharing import Turn
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

BATCH = 7


def estimator_of(model, share, loss=CATEGORICAL):
    collection = model.layer_collection(loss)
    return kc.FisherEstimator(collection, "exact", statistics_share=share)


def sums(state):
    """Return the sums of the statistics of all factors, and their weights."""
    found = {}
    for layer, own in state.blocks.items():
        for side in ("input_factor", "output_factor"):
            if hasattr(own, side):
                cov = getattr(own, side).cov
                total = kc.backend_of(cov.total).to_numpy(cov.total)
                found[layer, side] = total, float(cov.weight)
    return found


def after(estimator, params, linearization, batches):
    """Return the statistics of a batch that so many came before."""
    state = estimator.init(params)
    state = state._replace(cases=state.cases + batches * linearization.batch_size)
    return sums(estimator.update_covs(state, linearization, 0.0))


@pytest.mark.parametrize("name", ["dense", "convolutional", "embedding"])
@pytest.mark.parametrize("share", [0.4, 0.2, 0.01])
def test_the_mean_over_all_turns_is_that_of_all_cases(rng, name, share):
    model = CASES[name].model
    params, batch = draw(CASES[name], rng, BATCH)
    linearization = model.linearize(params, batch)
    full = after(estimator_of(model, 1.0), params, linearization, 0)
    estimator = estimator_of(model, share)
    turns = [after(estimator, params, linearization, t) for t in range(BATCH)]
    for key, (total, weight) in full.items():
        assert_close(np.mean([turn[key][0] for turn in turns], axis=0), total)
        assert {turn[key][1] for turn in turns} == {weight}
        # One turn alone is something else.
        assert not np.allclose(turns[0][key][0], total, rtol=1e-3)


def test_weights_of_cases_go_with_them(rng):
    model, case = CASES["dense"].model, CASES["dense"]
    params, batch = draw(case, rng, BATCH)
    weights = rng.uniform(0.2, 2.0, BATCH)
    batch = Batch(batch.inputs, mask=weights)
    linearization = model.linearize(params, batch)
    full = after(estimator_of(model, 1.0), params, linearization, 0)
    turns = [
        after(estimator_of(model, 0.4), params, linearization, t) for t in range(BATCH)
    ]
    for key, (total, _) in full.items():
        assert_close(np.mean([turn[key][0] for turn in turns], axis=0), total)


def test_a_share_is_the_batch_of_its_cases(library, rng):
    if library.package == "jax":
        pytest.skip("operation by operation it takes long; compiled it is below")
    model, case = CASES["dense"].model, CASES["dense"]
    params, batch = (moved(library, x) for x in draw(case, rng, BATCH))
    estimator = estimator_of(model, 0.4)
    # Three of seven, from the second on: places 1, 1 + 2 and 1 + 4.
    linearization = model.linearize(params, batch)
    found = after(estimator, params, linearization, 1)
    few = Batch(library.asarray(library.to_numpy(batch.inputs)[[1, 3, 5]]))
    whole = after(estimator_of(model, 1.0), params, model.linearize(params, few), 0)
    for key, (total, weight) in whole.items():
        assert_close(found[key][0], total)
        assert found[key][1] == weight


@pytest.mark.parametrize("batches", [4, 8, 12, 7])
def test_no_case_is_left_out_of_epochs_in_a_fixed_order(batches):
    cases, share, epochs = 8, 0.25, 200
    counts = np.zeros((batches, cases), dtype=int)
    for step in range(batches * epochs):
        place = np.asarray(step)
        turn = Turn(kc.backend_of(place), share, place)
        counts[step % batches, turn.places(cases)] += 1
    assert (abs(counts - share * epochs) < 0.2 * share * epochs).all()


def test_cases_are_still_counted_in_full(rng):
    model, case = CASES["dense"].model, CASES["dense"]
    params, batch = draw(case, rng, BATCH)
    estimator = estimator_of(model, 0.3)
    state = estimator.init(params)
    for _ in range(2):
        linearization = model.linearize(params, batch)
        state = estimator.update_covs(state, linearization, 0.9)
    assert int(state.cases) == 2 * BATCH


def test_all_cases_are_the_default_digit_for_digit(rng):
    model, case = CASES["dense"].model, CASES["dense"]
    params, batch = draw(case, rng, BATCH)
    linearization = model.linearize(params, batch)
    collection = model.layer_collection(CATEGORICAL)
    default = after(kc.FisherEstimator(collection, "exact"), params, linearization, 3)
    whole = after(estimator_of(model, 1), params, linearization, 3)
    for key, (total, _) in default.items():
        np.testing.assert_array_equal(whole[key][0], total)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), True, "all", None])
def test_a_share_is_a_number_up_to_one(share):
    with pytest.raises(ArgumentError, match="statistics_share"):
        estimator_of(CASES["dense"].model, share)


def test_a_compiled_update_takes_turns_without_compiling_again(jax, rng):
    model = SequentialModel(Sequential((Dense(3, 4), Tanh(), Dense(4, 2))))
    x = rng.standard_normal((6, 3))
    params = model.init(rng, like=x)
    estimator = estimator_of(model, 0.5, NORMAL)
    traced = []

    def update(state, params, x):
        traced.append(1)
        return estimator.update_covs(state, model.linearize(params, Batch(x)), 0.0)

    eager = compiled = estimator.init(params)
    compiled = tree.map(jax.numpy.asarray, compiled)
    compile_once = jax.jit(update)
    for _ in range(3):
        eager = update(eager, params, x)
        compiled = compile_once(compiled, params, x)
        for key, (total, _) in sums(eager).items():
            assert_close(sums(compiled)[key][0], total)
    assert len(traced) == 4


def test_a_compiler_traces_which_cases_are_taken(torch):
    def places(place):
        return Turn(kc.backend_of(place), 0.5, place).places(6)

    compiled = torch.compile(places, backend="eager", fullgraph=True)
    for place in map(torch.tensor, (0, 4, 8)):
        np.testing.assert_array_equal(compiled(place), places(place))
