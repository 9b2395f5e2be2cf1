"""What K-FAC keeps of the Fisher's traces."""

import numpy as np

from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.theorems import verbs
from kfac_core.theorems.theorem import LARGE, theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial


def _rows(trial: Trial) -> tuple[Matrix, Matrix]:
    """Return inputs and gradients whose lengths go together."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    lengths = np.linspace(0.5, 2.0, n)[:, None]
    x, g = (lengths * rng.standard_normal((n, size)) for size in (d, o))
    return x, g


def _moments(trial: Trial, x: Matrix, g: Matrix) -> tuple[Matrix, Matrix]:
    block = FullyConnectedKFACBasicFB(x.shape[1], g.shape[1])
    a, moment = trial.call(verbs.moments, block, (x, g))
    return a, moment


@theorem(
    "T13",
    condition="inputs of one length, as after a norm layer",
    claim="tr K = tr F, and the trace over inputs is tr(A) G",
    source="T0, traced",
    twin="inputs of many lengths",
    large=LARGE,
)
def inputs_of_one_length_keep_traces(trial: Trial, holds: bool) -> Measured:
    """Compare with sums over cases of ``|a|^2 g g'``; no matrix is dense."""
    x, g = _rows(trial)
    if holds:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    a, moment = _moments(trial, x, g)
    squares = (x * x).sum(axis=1)
    partial = np.einsum("n,ni,nj->ij", squares, g, g) / len(x)
    return trial.judged(np.trace(a) * moment, partial, terms=len(x))


@theorem(
    "T13'",
    condition="a layer that acts once in a case",
    claim="tr F - tr K = Cov(|a|^2, |g|^2)",
    source="T0, traced",
    twin="the covariance left out",
    large=LARGE,
)
def traces_differ_by_a_covariance(trial: Trial, holds: bool) -> Measured:
    """Add the covariance of the squared lengths to the trace of K-FAC."""
    x, g = _rows(trial)
    a, moment = _moments(trial, x, g)
    squares, others = (x * x).sum(axis=1), (g * g).sum(axis=1)
    covariance = (squares * others).mean() - squares.mean() * others.mean()
    trace = np.trace(a) * np.trace(moment) + (covariance if holds else 0)
    return trial.judged(trace, (squares * others).mean(), terms=len(x))


THEOREMS = (inputs_of_one_length_keep_traces, traces_differ_by_a_covariance)
