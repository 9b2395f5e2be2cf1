"""The moving averages of other libraries, and our arguments for each.

One word, such as a decay of 0.95, is the weight of the old in one library and that of
the new in another; some begin at the identity, some at zero, some at the first batch.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest

import kfac_core as kc

SIZE, STEPS, RATE = 3, 4, 0.95


class Rule(NamedTuple):
    """How a library averages, by its own recursion, and how we are told to."""

    start: Any  # of the size; None: the first sample
    old: float
    new: float
    options: dict[str, bool]
    debiased: bool = False


FROM_ZERO = {"zero_debias": False, "init_covariances_at_zero": True}
FROM_IDENTITY = {"zero_debias": False, "init_covariances_at_zero": False}
RULES = {
    "kfac-jax": Rule(np.zeros, RATE, 1.0, {}, debiased=True),
    "kfac-jax, burn-in": Rule(np.zeros, 1.0, 1.0, {}, debiased=True),
    "kfac-pytorch": Rule(np.eye, RATE, 1 - RATE, FROM_IDENTITY),
    "alecwangcq": Rule(np.eye, RATE, 1 - RATE, FROM_IDENTITY),
    "lzhangbv": Rule(np.eye, 1 - RATE, RATE, FROM_IDENTITY),
    "Thrandis": Rule(None, 1 - RATE, RATE, {}),
    "asdl": Rule(np.zeros, 1 - RATE, RATE, FROM_ZERO),
    "SOAP": Rule(np.zeros, RATE, 1 - RATE, FROM_ZERO),
}


def theirs(rule, samples):
    shape = (SIZE, SIZE)
    value, weight = np.zeros(shape), 0.0
    if rule.start is np.eye:
        value = np.eye(SIZE)
    for k, sample in enumerate(samples):
        if rule.start is None and not k:
            value = sample
            continue
        value = rule.old * value + rule.new * sample
        weight = rule.old * weight + rule.new
    return value / weight if rule.debiased else value


def ours(rule, rows):
    factor = kc.factors.FullyConnectedKroneckerFactor(SIZE, **rule.options)
    state = factor.init(np.zeros(1))
    for k, x in enumerate(rows):
        first = rule.start is None and not k
        weight = 1.0 if first else rule.new
        state = factor.update_cov(state, x, ema_decay=rule.old, ema_weight=weight)
    return factor.get_cov(state)


@pytest.mark.parametrize("name", RULES)
def test_the_average_is_theirs(name, rng):
    rule, rows = RULES[name], rng.normal(size=(STEPS, 6, SIZE))
    samples = [x.T @ x / len(x) for x in rows]
    wanted = theirs(rule, samples)
    np.testing.assert_allclose(ours(rule, rows), wanted, rtol=1e-12)
    # Whoever takes the same number for the other's weight has another average.
    if rule.new not in {1.0, rule.old}:
        other = theirs(rule._replace(old=rule.new, new=rule.old), samples)
        assert np.abs(other - wanted).max() > 0.01 * np.abs(wanted).max()
