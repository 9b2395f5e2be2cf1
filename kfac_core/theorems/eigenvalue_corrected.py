"""EKFAC is a projection: the nearest matrix that is diagonal in K-FAC's eigenbasis.

Eigenvectors of equal eigenvalues are any basis of their space, and libraries choose
differently; so what is compared does not depend on the choice.
"""

from typing import Any

import numpy as np

from kfac_core.fisher_blocks import EigenvalueCorrectedFB, FullyConnectedKFACBasicFB
from kfac_core.reference import (
    Conv2D,
    MeanPool2D,
    Sequential,
)
from kfac_core.theorems import verbs
from kfac_core.theorems.algebra import rows
from kfac_core.theorems.drawn import HIDDEN, NARROW, layer_of, random_params
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import GENERAL, Matrix, Measured, Trial

DAMPING = 0.1


def corrected(block: EigenvalueCorrectedFB, data: Any, later: Any) -> Any:
    """Return the state with the basis of one batch and the eigenvalues of another."""
    state = verbs.inverted(block, data, DAMPING)
    inputs, gradients = later
    return block.update_covs(state, inputs, gradients, ema_decay=0.0)


def _dense(block: EigenvalueCorrectedFB, data: Any, later: Any) -> Any:
    return block.full_fisher_block(corrected(block, data, later))


def _solved(block: EigenvalueCorrectedFB, data: Any, later: Any, vector: Any) -> Any:
    return block.multiply_inverse(corrected(block, data, later), vector)


def _fisher(x: Matrix, g: Matrix) -> Matrix:
    cases = np.einsum("ni,nj->nij", x, g).reshape(len(x), -1)
    return cases.T @ cases / len(x)


def _corrected(trial: Trial, data: Any, later: Any) -> tuple[Matrix, Matrix]:
    """Return K-FAC and EKFAC of a layer, dense."""
    block = FullyConnectedKFACBasicFB(*trial.sizes[1:])
    ekfac = trial.call(_dense, EigenvalueCorrectedFB(block), data, later)
    return trial.call(verbs.dense, block, data), ekfac


@theorem(
    "T15",
    condition="EKFAC: eigenvalues from the same cases as the eigenvectors",
    claim="|F - K|^2 = |F - E|^2 + |E - K|^2, so that |F - E| <= |F - K|",
    source="George et al. (2018), section 3: E is a projection of F",
    twin="eigenvalues from other cases",
)
def ekfac_is_a_projection(trial: Trial, holds: bool) -> Measured:
    """Compare both sides of Pythagoras' theorem, over the norm of the Fisher."""
    x, g, _ = rows(trial)
    later = (x, g) if holds else (x, g[::-1])
    kfac, ekfac = _corrected(trial, (x, g), later)
    fisher = _fisher(x, g)
    whole, near, apart = (
        float(np.linalg.norm(m)) for m in (fisher - kfac, fisher - ekfac, ekfac - kfac)
    )
    error = abs(whole**2 - near**2 - apart**2) / float(np.linalg.norm(fisher)) ** 2
    terms = len(x) + sum(trial.sizes[1:])
    return Measured(error, trial.bound(terms, len(fisher)))


@theorem(
    "T16",
    condition="EKFAC: eigenvalues from the same cases as the eigenvectors",
    claim="tr E = tr F",
    source="George et al. (2018): E has the diagonal of Q' F Q",
    twin="K-FAC's eigenvalues",
)
def ekfac_keeps_the_trace(trial: Trial, holds: bool) -> Measured:
    """Compare with the mean of ``|a|^2 |g|^2``."""
    x, g, _ = rows(trial)
    kfac, ekfac = _corrected(trial, (x, g), (x, g))
    truth = ((x * x).sum(axis=1) * (g * g).sum(axis=1)).mean()
    found = np.trace(ekfac if holds else kfac)
    terms = len(x) + sum(trial.sizes[1:])
    return trial.judged(found, truth, terms=terms, size=len(ekfac))


@theorem(
    "T15w",
    condition="EKFAC of a convolution: gradients summed over locations, then squared",
    claim="tr E = tr F",
    source="George et al. (2018), of a case's whole gradient",
    twin="K-FAC, whose locations are uncorrelated",
)
def ekfac_sums_before_it_squares(trial: Trial, holds: bool) -> Measured:
    """Pool the locations, so that their gradients agree."""
    rng = trial.rng()
    network = Sequential((Conv2D((2, 2, 2, HIDDEN)), MeanPool2D()))
    params = random_params(network, rng)
    x = rng.standard_normal((trial.sizes.batch, 3, 3, 2))
    layer = layer_of(network, params, x, NARROW, 0)
    data = tuple(layer.data)
    ekfac = trial.call(_dense, EigenvalueCorrectedFB(layer.block), data, data)
    found = np.trace(ekfac if holds else layer.kfac(trial))
    size = len(layer.fisher)
    truth = np.trace(layer.fisher)
    return trial.judged(found, truth, terms=layer.terms + size, size=size)


@theorem(
    "T17",
    condition="EKFAC in the basis of the parameters themselves",
    claim="E = diag(F)",
    source="George et al. (2018), with Q = I",
    twin="the eigenbasis of K-FAC",
)
def without_a_basis_it_is_the_diagonal(trial: Trial, holds: bool) -> Measured:
    """Keep the diagonals of both factors alone, whose eigenvectors are units."""
    (x, g, _), (_, d, o) = rows(trial), trial.sizes
    block = FullyConnectedKFACBasicFB(
        d, o, diagonal_approx_for_input=holds, diagonal_approx_for_output=holds
    )
    found = trial.call(_dense, EigenvalueCorrectedFB(block), (x, g), (x, g))
    truth = np.diag(((x * x).T @ (g * g) / len(x)).reshape(-1))
    return trial.judged(found, truth, terms=len(x) + d + o, size=d * o)


@theorem(
    "T32",
    condition="K-FAC, A a multiple of the identity: any basis is an eigenbasis",
    claim="the inverse is the same, whichever basis the library finds",
    source="a function of a matrix does not depend on the eigenvectors",
    twin="EKFAC, which depends on it",
    general_only=True,
)
def kfac_does_not_see_the_basis(trial: Trial, holds: bool) -> Measured:
    """Change the inputs by rounding, which turns the eigenvectors by any angle."""
    rng, (_, d, o) = trial.rng(), GENERAL
    n = 4 * d
    q, _ = np.linalg.qr(rng.standard_normal((n, d)))
    x, g = 2 * q, rng.standard_normal((n, o))
    v, size = rng.standard_normal((d, o)), 32 * float(np.finfo(trial.dtype).eps)
    found = []
    for _ in range(2):
        moved = x + size * rng.standard_normal(x.shape)
        if holds:
            block = FullyConnectedKFACBasicFB(d, o, damping_type="exact")
            found.append(trial.call(verbs.solved, block, (moved, g), DAMPING, v))
        else:
            ekfac = EigenvalueCorrectedFB(FullyConnectedKFACBasicFB(d, o))
            found.append(trial.call(_solved, ekfac, (moved, g), (moved, g), v))
    a, moment = x.T @ x / n, g.T @ g / n
    values = np.linalg.eigvalsh(np.kron(a, moment)) + DAMPING
    condition = float(values[-1] / values[0])
    return trial.judged(*found, terms=n + 32, condition=condition)


THEOREMS = (
    ekfac_is_a_projection,
    ekfac_sums_before_it_squares,
    ekfac_keeps_the_trace,
    without_a_basis_it_is_the_diagonal,
    kfac_does_not_see_the_basis,
)
