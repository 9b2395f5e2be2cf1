"""Ranks in teams take the steps of ranks that keep all inverses, and send less or more.

A team keeps the inverses of its layers, and tells the other teams its products.
"""

from dataclasses import replace

import numpy as np
import pytest
from dense_model import ESTIMATOR, MODEL, SIZES
from estimator_cases import CASES, CATEGORICAL, draw, draw_like_params
from ranks_of_threads import on_ranks

import kfac_core as kc
from kfac_core.collectives import (
    Counted,
    SharedEstimator,
    SingleProcess,
    step_costs,
    teams_of,
)
from kfac_core.collectives.costs import workers_for
from kfac_core.collectives.inverses import inverted, multiplied, owners
from kfac_core.collectives.sharing import summed
from kfac_core.errors import ArgumentError, NotComputedError, UnsupportedError
from kfac_core.reference import Batch

SCALARS = 5 * 8 + 4
"""Bytes of a layer's dampings and flags, which travel with its inverses."""


def problem(rng):
    params = draw(CASES["dense"], rng).params
    seen = MODEL.linearize(params, Batch(rng.normal(size=(12, 4))))
    state = ESTIMATOR.update_covs(ESTIMATOR.init(params), seen, 0.9)
    return state, draw_like_params(MODEL, rng)


def on_teams(state, vectors, fraction, rank):
    """Return the teams, the new state, its product, and what came for both."""
    counted = Counted(rank)
    teams = teams_of(counted, fraction)
    new = inverted(ESTIMATOR, state, 0.1, teams)
    of_inverses = counted.received
    counted.reset()
    product = multiplied(ESTIMATOR, new, vectors, teams)
    return teams, new, product, of_inverses, counted.received


def memory(state):
    """Return the bytes of the matrices of inverses."""
    found = []
    for name, block in ESTIMATOR.blocks.items():
        for _, own in block.factors(state.blocks[name]).values():
            found += [0 if 0 in x.strides else x.nbytes for x in own.derived.matpowers]
    return sum(found)


@pytest.mark.parametrize(
    ("ranks", "fraction"),
    [(2, 0), (2, 1), (4, 0), (4, 0.5), (4, 1), (8, 0.25), (6, 0.5)],
)
def test_teams_take_the_same_step_and_send_what_it_costs(ranks, fraction, rng):
    state, vectors = problem(rng)
    truth = ESTIMATOR.multiply_inverse(ESTIMATOR.update_inverses(state, 0.1), vectors)
    found = on_ranks(ranks, lambda rank: on_teams(state, vectors, fraction, rank))
    costs = step_costs(SIZES, ranks, fraction, itemsize=8)
    workers = workers_for(fraction, ranks)
    by_layer = owners(ESTIMATOR, state, ranks)
    received, products = [], []
    for rank, (teams, new, product, of_inverses, of_products) in enumerate(found):
        assert (teams.number, teams.team.size) == (rank // workers, workers)
        for name, x in product.items():
            np.testing.assert_array_equal(x, found[0][2][name])
            np.testing.assert_allclose(x, truth[name], rtol=0, atol=1e-12)
        own = [n for n, owner in by_layer.items() if teams.of(owner) == teams.number]
        others = sum(by_layer[name] != rank for name in own)
        received.append(of_inverses - others * SCALARS)
        products.append(of_products)
        assert memory(new) <= costs.kept_bytes
    assert max(received) == costs.inverse_bytes
    assert max(products) == costs.product_bytes
    assert max(memory(own[1]) for own in found) == costs.kept_bytes


def test_each_inverse_is_computed_once_whatever_the_fraction(rng, monkeypatch):
    computed, original = [], kc.FisherEstimator.update_inverses

    def counting(self, state, damping, *, layers=None, tolerance=None):
        computed.extend(layers)
        return original(self, state, damping, layers=layers, tolerance=tolerance)

    monkeypatch.setattr(kc.FisherEstimator, "update_inverses", counting)
    state, vectors = problem(rng)
    on_ranks(4, lambda rank: on_teams(state, vectors, 0.5, rank))
    assert sorted(computed) == sorted(ESTIMATOR.blocks)


def test_a_rank_has_no_inverse_of_another_team(rng):
    state, vectors = problem(rng)
    found = on_ranks(2, lambda rank: on_teams(state, vectors, 0, rank))
    for _, new, *_ in found:
        with pytest.raises(NotComputedError):
            ESTIMATOR.multiply_inverse(new, vectors)
        assert bool(new.ok)
        # It goes on from there as from any state.
        again = ESTIMATOR.update_inverses(new, 0.1)
        assert ESTIMATOR.multiply_inverse(again, vectors).keys() == vectors.keys()


def corrected_estimator():
    """Return an estimator with K-FAC for the first layer, and EKFAC for the others."""
    collection = MODEL.layer_collection(CATEGORICAL)
    first, *others = collection.layers
    layers = [
        replace(own, block=kc.blocks.EigenvalueCorrectedFB(own.block)) for own in others
    ]
    corrected = replace(collection, layers=(first, *layers))
    return kc.FisherEstimator(corrected, estimation_mode="exact")


@pytest.mark.parametrize(("ranks", "fraction"), [(2, 0), (3, 0), (4, 0.5)])
def test_eigenvectors_that_statistics_need_are_kept_by_all(ranks, fraction, rng):
    params = draw(CASES["dense"], rng).params
    batches = rng.normal(size=(3, 12, 4))
    estimator, vectors = corrected_estimator(), draw_like_params(MODEL, rng)
    alone = estimator.init(params)
    for x in batches:
        seen = MODEL.linearize(params, Batch(x))
        alone = estimator.update_covs(alone, seen, 0.9)
        alone = estimator.update_inverses(alone, 0.1)

    def work(rank):
        shared = SharedEstimator(estimator, teams_of(rank, fraction))

        state = shared.init(params)
        for x in batches:
            given = MODEL.linearize(params, Batch(np.split(x, ranks)[rank.rank]))
            decay = 0.9 if rank.rank == 0 else 0.0
            new = shared.update_covs(state, given, decay, 1 / ranks)
            state = summed(estimator, state, new, rank)
            state = shared.update_inverses(state, 0.1)
        return shared.multiply_inverse(state, vectors), shared.multiply(state, vectors)

    found = on_ranks(ranks, work)
    wanted = (
        estimator.multiply_inverse(alone, vectors),
        estimator.multiply(alone, vectors),
    )
    for own in found:
        for product, truth, first in zip(own, wanted, found[0], strict=True):
            for name, x in product.items():
                np.testing.assert_array_equal(x, first[name])
                np.testing.assert_allclose(x, truth[name], rtol=0, atol=1e-10)


def test_an_engine_without_groups_has_one_team():
    class Whole:
        rank, size = 0, 2
        all_reduce = broadcast = None

    assert teams_of(Whole(), 1.0).keeps is None
    for whole in (Whole(), Counted(Whole())):
        with pytest.raises(UnsupportedError, match="split"):
            teams_of(whole, 0.5)
    with pytest.raises(ArgumentError, match="fraction"):
        teams_of(SingleProcess(), 1.5)
