"""Prepared verbs of factors return what the verbs do, bit for bit."""

import numpy as np
import pytest
from factor_case import asarrays
from factor_case import tree as mapped
from factor_cases import FACTORS

import kfac_core as kc


def scaled(data, factor):
    return mapped(lambda x: x if x.dtype.kind == "i" else x * factor, data)


@pytest.mark.parametrize("name", FACTORS)
def test_three_updates_are_those_of_the_verbs(eager_library, name, rng):
    case, library = FACTORS[name], eager_library
    factor = case.make(**case.all_served(-1, 0.5))
    update_cov = kc.prepared(factor.update_cov)
    update_inverses = kc.prepared(factor.update_inverses)
    first = case.draw(rng, 6)
    own = state = factor.init(library.asarray(np.zeros(1)))
    for step in range(3):
        data = scaled(first, 1 / (1 + step))
        options = {**case.extra, "ema_decay": 0.5 + step / 10}
        state = factor.update_cov(state, *asarrays(library, data), **options)
        own = update_cov(own, *asarrays(library, data), **options)
        library.assert_same(own, state)
        state = factor.update_inverses(state, 0.1 + step)
        own = update_inverses(own, 0.1 + step)
        library.assert_same(own, state)
    if library.name == "numpy":
        assert update_cov.forms
        assert update_inverses.forms
