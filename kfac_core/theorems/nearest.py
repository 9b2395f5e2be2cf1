"""Kronecker products that are nearest to the Fisher, or have its traces."""

import numpy as np

from kfac_core.fisher_blocks import (
    FullyConnectedKFACBasicFB,
    KroneckerOptimalFB,
    TensorNormalTrainingFB,
)
from kfac_core.theorems import verbs
from kfac_core.theorems.algebra import rows
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial

ROUNDS = 12
"""How often both sides are computed; a compiler writes each out."""


def _rearranged(x: Matrix, g: Matrix) -> Matrix:
    """Return ``R(F) = E[vec(a a') vec(g g')']``, of rank one where ``F = A x G``."""
    a, b = (np.einsum("ni,nj->nij", own, own).reshape(len(own), -1) for own in (x, g))
    return a.T @ b / len(x)


def _fisher(x: Matrix, g: Matrix) -> Matrix:
    cases = np.einsum("ni,nj->nij", x, g).reshape(len(x), -1)
    return cases.T @ cases / len(x)


@theorem(
    "T14",
    condition="factors that are partial traces of F, over its trace (TNT)",
    claim="the trace and both partial traces are those of F",
    source="Gao et al. (2020); Ren & Goldfarb (2021)",
    twin="K-FAC's factors",
)
def partial_traces_are_kept(trial: Trial, holds: bool) -> Measured:
    """Trace the block over its inputs, and over its outputs."""
    (x, g, _), (_, d, o) = rows(trial), trial.sizes
    plain = FullyConnectedKFACBasicFB(d, o)
    block = TensorNormalTrainingFB(plain) if holds else plain
    found = trial.call(verbs.dense, block, (x, g)).reshape(d, o, d, o)
    truth = _fisher(x, g).reshape(d, o, d, o)
    traces = ("iaib->ab", "iaja->ij", "iaia->")
    both = (tuple(np.einsum(t, own) for t in traces) for own in (found, truth))
    return trial.judged(*both, terms=len(x) + d + o, size=d * o)


@theorem(
    "T18",
    condition="the Kronecker product M nearest to F, by alternation",
    claim="|F - M|^2 = |F|^2 - s^2, for the largest singular value s of F rearranged",
    source="Van Loan & Pitsianis (1993), theorem 5.1",
    twin="K-FAC's product",
)
def the_nearest_product_is_of_rank_one(trial: Trial, holds: bool) -> Measured:
    """Compare squared distances, over the squared norm of the Fisher."""
    (x, g, _), (_, d, o) = rows(trial), trial.sizes
    plain = FullyConnectedKFACBasicFB(d, o)
    block = KroneckerOptimalFB(plain, rounds=ROUNDS) if holds else plain
    found, fisher = trial.call(verbs.dense, block, (x, g)), _fisher(x, g)
    values = np.linalg.svd(_rearranged(x, g), compute_uv=False)
    square = float(np.linalg.norm(fisher)) ** 2
    distance = float(np.linalg.norm(fisher - found)) ** 2
    error = abs(distance - (square - float(values[0]) ** 2)) / square
    # What the rounds leave: the angle shrinks by (s2 / s1)^2 in each.
    second = float(values[1] / values[0]) if len(values) > 1 else 0.0
    left = second ** (4 * ROUNDS) * (d * o) if holds else 0.0
    return Measured(error, trial.bound(len(x) + d + o, d * o) + left)


THEOREMS = (partial_traces_are_kept, the_nearest_product_is_of_rank_one)
