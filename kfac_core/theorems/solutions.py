"""What holds for the damped inverse ``P``, and how it is computed from few rows."""

import numpy as np

from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.theorems import verbs
from kfac_core.theorems.algebra import moments_of, pi_damped, rows
from kfac_core.theorems.theorem import LARGE, theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial

DAMPING = 0.3


def _solve(trial: Trial, x: Matrix, g: Matrix, v: Matrix, damping: float) -> Matrix:
    block = FullyConnectedKFACBasicFB(x.shape[1], g.shape[1])
    found: Matrix = trial.call(verbs.solved, block, (x, g), damping, v)
    return found


def _condition(x: Matrix, g: Matrix, damping: float) -> float:
    """Return the condition number of the block, damped by pi."""
    means = [float((own * own).mean()) for own in (x, g)]
    root, condition = float(np.sqrt(damping)), 1.0
    for own, mean, other in ((x, *means), (g, *means[::-1])):
        largest = float(np.linalg.norm(own, 2)) ** 2 / len(own)
        condition *= 1 + largest / (np.sqrt(mean / other) * root)
    return float(condition)


@theorem(
    "T29",
    condition="fewer rows than columns, all of them kept",
    claim="Woodbury's form is the inverse of the damped matrix",
    source="Woodbury (1950)",
    twin="the latest row alone kept",
    large=LARGE,
    solves=True,
)
def few_rows_are_solved_with(trial: Trial, holds: bool) -> Measured:
    """Compare a block that keeps rows with a block that keeps their matrix."""
    (x, g, v), (n, d, o) = rows(trial), trial.sizes
    if holds:
        kept = FullyConnectedKFACBasicFB(d, o, input_max_rows=n)
        found = trial.call(verbs.solved, kept, (x, g), DAMPING, v)
    else:
        last, moment = moments_of(x[-1:], g[-1:])[0], moments_of(x, g)[1]
        a, damped = pi_damped(last, moment, DAMPING)
        found = np.linalg.solve(a, v) @ np.linalg.inv(damped)
    truth = _solve(trial, x, g, v, DAMPING)
    condition = _condition(x, g, DAMPING)
    return trial.judged(found, truth, terms=n + d, condition=condition)


@theorem(
    "symmetry",
    condition="the inverse P, and vectors u and v",
    claim="u'Pv = v'Pu, and v'Pv > 0",
    source="P is symmetric positive definite",
    twin="P after a projection, as of frozen rows",
    large=LARGE,
    solves=True,
)
def the_inverse_is_symmetric(trial: Trial, holds: bool) -> Measured:
    """Compare both products, over the lengths of the vectors."""
    x, g, v = rows(trial)
    u = trial.rounded(np.random.default_rng(trial.seed + 1).standard_normal(v.shape))
    of_u, of_v = (_solve(trial, x, g, own, DAMPING) for own in (u, v))
    if not holds:
        of_u[0], of_v[0] = 0, 0
    bound = trial.bound(len(x) + len(v), len(v), _condition(x, g, DAMPING))
    if (v * of_v).sum() < 0 or (u * of_u).sum() < 0:
        return Measured(float("inf"), bound)
    scale = np.linalg.norm(of_u) * np.linalg.norm(v)
    error = abs((u * of_v).sum() - (v * of_u).sum()) / scale
    return Measured(float(error), bound)


@theorem(
    "linear",
    condition="the inverse P, vectors u and v",
    claim="P(3u + v) = 3 Pu + Pv",
    source="P is linear",
    twin="P that is normed to the length of its argument",
    large=LARGE,
    solves=True,
)
def the_inverse_is_linear(trial: Trial, holds: bool) -> Measured:
    """Compare the image of a sum and the sum of images."""
    x, g, v = rows(trial)
    u = trial.rounded(np.random.default_rng(trial.seed + 1).standard_normal(v.shape))
    vectors = (3 * u + v, u, v)
    whole, of_u, of_v = (_solve(trial, x, g, own, DAMPING) for own in vectors)
    if not holds:
        whole, of_u, of_v = (
            image * np.linalg.norm(own) / np.linalg.norm(image)
            for image, own in zip((whole, of_u, of_v), vectors, strict=True)
        )
    condition = _condition(x, g, DAMPING)
    found, truth = whole, 3 * of_u + of_v
    return trial.judged(found, truth, terms=len(x) + len(v), condition=condition)


@theorem(
    "limit",
    condition="a damping c that is huge",
    claim="c P v = v; and |P v| falls as c grows",
    source="the damping outweighs the matrix",
    twin="a moderate damping",
    large=LARGE,
    solves=True,
)
def huge_damping_is_all_there_is(trial: Trial, holds: bool) -> Measured:
    """Scale the solution by the damping."""
    x, g, v = rows(trial)
    # What is left of the matrix is of the order of the root.
    eps = float(np.finfo(trial.dtype).eps)
    huge = float(2.0 ** np.ceil(-2 * np.log2(eps)) if holds else 1.0)
    found = _solve(trial, x, g, v, huge)
    less = _solve(trial, x, g, v, huge / 4)
    bound = trial.bound(len(x) + len(v), len(v))
    if not np.linalg.norm(found) < np.linalg.norm(less):
        return Measured(float("inf"), bound)
    error = float(np.linalg.norm(huge * found - v) / np.linalg.norm(v))
    return Measured(error, bound)


THEOREMS = (
    few_rows_are_solved_with,
    the_inverse_is_symmetric,
    the_inverse_is_linear,
    huge_damping_is_all_there_is,
)
