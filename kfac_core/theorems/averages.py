"""Averages over shards, cases and time."""

from typing import Any

import numpy as np

from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.theorems import verbs
from kfac_core.theorems.algebra import moments_of, rows
from kfac_core.theorems.theorem import LARGE, theorem
from kfac_core.theorems.trial import Measured, Trial

DECAYS = (0.3, 0.95, 1.0)


def _again_and_again(block: Any, data: Any, decays: Any) -> Any:
    inputs, gradients = data
    state = block.init(gradients)
    for k in range(len(DECAYS)):
        state = block.update_covs(state, inputs, gradients, ema_decay=decays[k])
    return verbs.factors_of(block, state)


def _block(trial: Trial, **options: Any) -> Any:
    _, d, o = trial.sizes
    return FullyConnectedKFACBasicFB(d, o, **options)


@theorem(
    "T25",
    condition="shards of unequal size, weighted by their rows",
    claim="the factors are those of the whole batch",
    source="a mean is the mean of means, weighted by counts",
    twin="the plain mean over shards",
    large=LARGE,
)
def shards_are_one_batch(trial: Trial, holds: bool) -> Measured:
    """Give a block two towers, of one row and of the rest."""
    x, g, _ = rows(trial)
    x, g = (np.concatenate([own, 2 * own[:1]]) for own in (x, g))
    truth, block = moments_of(x, g), _block(trial)
    if holds:
        found = trial.call(verbs.moments, block, ((x[:1], x[1:]), ((g[:1], g[1:]),)))
    else:
        parts = [
            moments_of(x[part], g[part]) for part in np.split(np.arange(len(x)), [1])
        ]
        found = tuple(sum(pair) / 2 for pair in zip(*parts, strict=True))
    return trial.judged(found, truth, terms=len(x))


@theorem(
    "T26",
    condition="one batch again and again, whatever the decays, debiased",
    claim="the average is the batch's own at every step",
    source="a weighted mean of equal things; Kingma & Ba (2015), section 3",
    twin="an identity at the start, without debiasing",
    large=LARGE,
)
def an_average_of_equals_is_exact(trial: Trial, holds: bool) -> Measured:
    """Fold one batch three times, with three decays."""
    x, g, _ = rows(trial)
    options = {} if holds else {"zero_debias": False, "init_covariances_at_zero": False}
    decays = np.asarray(DECAYS if holds else (0.9, 0.9, 0.9))
    found = trial.call(_again_and_again, _block(trial, **options), (x, g), decays)
    return trial.judged(found, moments_of(x, g), terms=len(x) + len(DECAYS))


@theorem(
    "order",
    condition="the same cases in another order, each twice",
    claim="the factors are the same",
    source="a mean over cases",
    twin="one case twice",
    large=LARGE,
)
def order_and_copies_do_not_matter(trial: Trial, holds: bool) -> Measured:
    """Permute and repeat the rows."""
    x, g, _ = rows(trial)
    n = len(x)
    once = trial.rng().permutation(n)
    chosen = np.concatenate([once, once]) if holds else np.append(once, 0)
    found = trial.call(verbs.moments, _block(trial), (x[chosen], g[chosen]))
    return trial.judged(found, moments_of(x, g), terms=2 * n)


@theorem(
    "zero",
    condition="one more case, without inputs and gradients",
    claim="the factors become N / (N + 1) of what they were",
    source="a mean over cases",
    twin="the factors as they were",
    large=LARGE,
)
def a_case_of_zeros_dilutes(trial: Trial, holds: bool) -> Measured:
    """Append a row of zeros."""
    x, g, _ = rows(trial)
    n = len(x)
    more = tuple(np.concatenate([own, 0 * own[:1]]) for own in (x, g))
    found = trial.call(verbs.moments, _block(trial), more)
    part = n / (n + 1) if holds else 1.0
    truth = tuple(part * moment for moment in moments_of(x, g))
    return trial.judged(found, truth, terms=n)


@theorem(
    "scale",
    condition="a loss times four",
    claim="G is sixteen times what it was, bit for bit",
    source="powers of two are exact in binary arithmetic",
    twin="a loss times three",
    large=LARGE,
)
def powers_of_two_scale_exactly(trial: Trial, holds: bool) -> Measured:
    """Count a difference of any bit as an error."""
    x, g, _ = rows(trial)
    block, factor = _block(trial), 4.0 if holds else 3.0
    _, before = trial.call(verbs.moments, block, (x, g))
    _, after = trial.call(verbs.moments, block, (x, trial.rounded(factor * g)))
    return Measured(float(np.abs(after - 16 * before).max()), 0.0)


THEOREMS = (
    shards_are_one_batch,
    an_average_of_equals_is_exact,
    order_and_copies_do_not_matter,
    a_case_of_zeros_dilutes,
    powers_of_two_scale_exactly,
)
