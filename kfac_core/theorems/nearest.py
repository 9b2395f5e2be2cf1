"""Kronecker products that are nearest to the Fisher, or have its traces."""

import numpy as np

from kfac_core.fisher_blocks import (
    FullyConnectedKFACBasicFB,
    KroneckerOptimalFB,
    TensorNormalTrainingFB,
)
from kfac_core.registry import backend_of
from kfac_core.theorems import verbs
from kfac_core.theorems.algebra import moments_of, rows
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial
from kfac_core.typing import Array

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


@theorem(
    "T18'",
    condition="r rounds of alternation that start at K-FAC's G, for r = 1, 2",
    claim="|F - M|^2 = |F|^2 - s^2, s of r power iterations: never more than before",
    source="Golub & Van Loan (2013), section 8.2.3, on F rearranged",
    twin="no round: K-FAC's product",
)
def no_round_goes_away(trial: Trial, holds: bool) -> Measured:
    """Compare squared distances, and each with that of the round before."""
    (x, g, _), (_, d, o) = rows(trial), trial.sizes
    plain, fisher, r = FullyConnectedKFACBasicFB(d, o), _fisher(x, g), _rearranged(x, g)
    square = float(np.linalg.norm(fisher)) ** 2
    kfac = moments_of(x, g)
    before = float(np.linalg.norm(fisher - np.kron(*kfac))) ** 2
    b, error = kfac[1].reshape(-1), 0.0
    for rounds in (1, 2):
        a = r @ b / np.linalg.norm(r @ b)
        b = r.T @ a  # over |a|^2, which is one
        block = KroneckerOptimalFB(plain, rounds=rounds) if holds else plain
        found = trial.call(verbs.dense, block, (x, g))
        distance = float(np.linalg.norm(fisher - found)) ** 2
        wanted = square - float(b @ b)
        error = max(error, abs(distance - wanted), distance - before)
        before = distance
    return Measured(error / square, trial.bound(len(x) + d + o, d * o))


def _half_a_round(cases: int, data: verbs.Data, g: Array) -> Array:
    """Return ``A`` of half a round from ``G``."""
    x, gradients = data
    xp = backend_of(x).xp
    weights = xp.sum((gradients @ g) * gradients, axis=1, keepdims=True)
    found: Array = (weights * x).mT @ x / cases
    return found


@theorem(
    "T18''",
    condition="half a round of alternation that starts at G = I",
    claim="A is F traced over the outputs, as the factor of Shampoo and TNT is",
    source="Morwani et al. (2024): one step of the power iteration",
    twin="half a round that starts at K-FAC's G",
)
def half_a_round_from_the_identity_is_shampoo(trial: Trial, holds: bool) -> Measured:
    """Compare both factors, of norm one, with the partial trace."""
    (x, g, _), (_, d, o) = rows(trial), trial.sizes
    block = TensorNormalTrainingFB(FullyConnectedKFACBasicFB(d, o))
    start = np.eye(o) if holds else moments_of(x, g)[1]
    first = trial.call(_half_a_round, len(x), (x, g), start)
    both = (trial.call(verbs.dense, block, (x, g)), _fisher(x, g))
    found, truth = (np.einsum("iaka->ik", f.reshape(d, o, d, o)) for f in both)
    one_of = [own / np.linalg.norm(own) for own in (first, found, truth)]
    wanted = (one_of[2], one_of[2])
    return trial.judged(tuple(one_of[:2]), wanted, terms=len(x) + o, size=d * o)


THEOREMS = (
    partial_traces_are_kept,
    the_nearest_product_is_of_rank_one,
    no_round_goes_away,
    half_a_round_from_the_identity_is_shampoo,
)
