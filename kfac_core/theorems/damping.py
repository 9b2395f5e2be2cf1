"""What damping of each factor does to the block."""

import numpy as np

from kfac_core.damping import DampingType
from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.theorems import verbs
from kfac_core.theorems.algebra import moments_of, rows
from kfac_core.theorems.theorem import LARGE, theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial

DAMPING = 0.1


def _damped(
    trial: Trial, damping_type: DampingType, x: Matrix, g: Matrix
) -> tuple[Matrix, Matrix]:
    """Return both factors, as the library damps them."""
    block = FullyConnectedKFACBasicFB(x.shape[1], g.shape[1], damping_type=damping_type)
    a, moment = trial.call(verbs.damped_factors, block, (x, g), DAMPING)
    return a, moment


@theorem(
    "T23",
    condition="damping of each factor, by pi",
    claim="kron(A + .., G + ..) - (F + c I) is positive semi-definite",
    source="Martens & Grosse (2015), section 6.3: the cross terms are",
    twin="constant damping of small factors",
)
def factored_damping_damps_no_less(trial: Trial, holds: bool) -> Measured:
    """Measure how far the least eigenvalue is below zero, over the damping."""
    x, g, _ = rows(trial)
    if not holds:
        x, g = 0.1 * x, 0.1 * g
    a, moment = _damped(trial, "pi" if holds else "constant", x, g)
    exact = np.kron(*moments_of(x, g))
    more = np.kron(a, moment) - exact - DAMPING * np.eye(len(exact))
    least = float(np.linalg.eigvalsh((more + more.T) / 2)[0])
    scale = float(np.linalg.norm(exact)) / DAMPING + 1
    bound = trial.bound(len(x), len(exact), scale)
    return Measured(max(0.0, -least) / DAMPING, bound)


@theorem(
    "T23'",
    condition="damping by pi, scale moved from G to A",
    claim="the inverse is the same",
    source="kron(t A, G / t) = kron(A, G)",
    twin="constant damping",
    large=LARGE,
    solves=True,
)
def pi_does_not_see_the_gauge(trial: Trial, holds: bool) -> Measured:
    """Scale inputs by eight and gradients by an eighth."""
    (x, g, v), (_, d, o) = rows(trial), trial.sizes
    damping_type: DampingType = "pi" if holds else "constant"
    block = FullyConnectedKFACBasicFB(d, o, damping_type=damping_type)
    found = trial.call(verbs.solved, block, (8 * x, g / 8), DAMPING, v)
    truth = trial.call(verbs.solved, block, (x, g), DAMPING, v)
    condition = 1.0
    means = [float((own * own).mean()) for own in (x, g)]
    for own, ratio in ((x, means[0] / means[1]), (g, means[1] / means[0])):
        largest = float(np.linalg.norm(own, 2)) ** 2 / len(own)
        condition *= 1 + largest / np.sqrt(ratio * DAMPING)
    return trial.judged(found, truth, terms=len(x) + d, condition=condition)


@theorem(
    "T23''",
    condition="damping by pi",
    claim="the trace of the cross terms is least, 2 sqrt(c n m tr A tr G)",
    source="Martens & Grosse (2015), section 6.3",
    twin="pi = 1",
)
def pi_has_the_least_trace(trial: Trial, holds: bool) -> Measured:
    """Compare the trace of the damped block and the sum of its three parts."""
    x, g, _ = rows(trial)
    x = trial.rounded(3 * x)
    damped = _damped(trial, "pi" if holds else "off", x, g)
    (d, o), (a, moment) = map(len, damped), moments_of(x, g)
    product = np.trace(a) * np.trace(moment)
    truth = product + DAMPING * d * o + 2 * np.sqrt(DAMPING * d * o * product)
    found = np.trace(damped[0]) * np.trace(damped[1])
    return trial.judged(found, truth, terms=len(x) + d + o)


THEOREMS = (
    factored_damping_damps_no_less,
    pi_does_not_see_the_gauge,
    pi_has_the_least_trace,
)
