"""The longest first is near the best assignment, and what a step costs follows."""

from collections import Counter

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from benchmarks.layer_lists import NETWORKS
from kfac_core.collectives import assigned, inverse_cost, makespan, step_costs
from kfac_core.collectives.costs import workers_for
from kfac_core.errors import ArgumentError


def best(costs, ranks):
    """Return the least makespan, within 1e-4, of a mixed-integer program.

    It counts how many layers of each cost a rank has: equal layers are one variable.
    """
    kinds = Counter(costs)
    numbers, unit = np.asarray([*kinds.values()]), max(costs)
    prices = np.asarray([*kinds]) / unit
    each = np.kron(np.ones(ranks), np.eye(len(kinds)))
    loads = np.kron(np.eye(ranks), prices)
    order = np.kron(np.diff(np.eye(ranks), axis=0), np.eye(len(kinds))[0])
    rows = np.vstack([each, loads, order])
    last = np.concatenate([np.zeros(len(kinds)), -np.ones(ranks), np.zeros(ranks - 1)])
    free = np.full(ranks, np.inf), np.zeros(ranks), np.full(ranks - 1, np.inf)
    whole = rows.shape[1]
    found = milp(
        np.eye(whole + 1)[-1],
        constraints=LinearConstraint(
            np.column_stack([rows, last]),
            np.concatenate([numbers, -free[0], -free[2]]),
            np.concatenate([numbers, free[1], free[1][1:]]),
        ),
        integrality=np.append(np.ones(whole), 0),
        bounds=Bounds(
            np.append(np.zeros(whole), max(1.0, sum(costs) / unit / ranks)),
            np.append(np.tile(numbers, ranks), np.inf),
        ),
        options={"mip_rel_gap": 1e-4},
    )
    assert found.success, found.message
    return found.x[-1] * unit


@pytest.mark.parametrize("ranks", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_longest_first_is_within_a_thousandth_of_the_best(name, ranks):
    costs = [inverse_cost(sizes) for sizes in NETWORKS[name]()]
    found = makespan(costs, assigned(costs, ranks))
    bound = max(max(costs), sum(costs) / ranks)
    if found > 1.001 * bound:  # else no assignment is better by more
        bound = best(costs, ranks)
    assert found <= 1.001 * bound


def test_the_order_that_layers_come_in_is_not_as_good():
    costs = [inverse_cost(sizes) for sizes in NETWORKS["ResNet-50"]()]
    in_turn = makespan(costs, [i % 4 for i in range(len(costs))])
    assert in_turn > 1.2 * makespan(costs, assigned(costs, 4))


def test_all_work_is_done_once_and_all_ranks_agree():
    assert assigned([3.0, 1.0, 3.0, 2.0, 3.0], 3) == (0, 1, 1, 0, 2)
    assert assigned([], 2) == ()


@pytest.mark.parametrize("cost", [-1.0, np.nan, np.inf])
def test_costs_that_are_none_are_refused(cost):
    with pytest.raises(ArgumentError, match=r"costs\[1\]"):
        assigned([1.0, cost], 2)


def test_a_fraction_is_a_divisor_of_the_ranks():
    assert [workers_for(f, 12) for f in (0, 1 / 12, 0.3, 0.5, 0.9, 1)] == [
        *(1, 1, 4, 6, 12, 12),
    ]
    for fraction in (-0.1, 1.1, np.nan):
        with pytest.raises(ArgumentError, match="fraction"):
            workers_for(fraction, 8)


def test_both_ends_of_the_fraction_are_those_of_kaisa():
    layers = [(4, 2), (3, 3), (2, 2)]
    everywhere, once = (step_costs(layers, 2, f, itemsize=1) for f in (1, 0))
    # The first layer is inverted by rank 0, and the others by rank 1.
    triangles = 10 + 3, 6 + 6, 3 + 3
    assert everywhere.statistics_bytes == once.statistics_bytes == sum(triangles)
    assert everywhere.inverse_bytes == max(triangles[1] + triangles[2], triangles[0])
    assert everywhere.kept_bytes == 16 + 4 + 9 + 9 + 4 + 4
    assert (everywhere.product_bytes, once.inverse_bytes) == (0, 0)
    assert once.product_bytes == max(9 + 4, 8)
    assert once.kept_bytes == max(16 + 4, 9 + 9 + 4 + 4)
    assert everywhere.inverse_flops == once.inverse_flops == 4**3 + 2**3
    assert once.product_flops == max(2 * 8 * 6, 2 * 9 * 6 + 2 * 4 * 4)


def test_one_rank_sends_nothing():
    costs = step_costs(NETWORKS["GPT-2 small"](), 1)
    assert (costs.sent_bytes, costs.inverse_bytes, costs.product_bytes) == (0, 0, 0)
