"""Fisher of losses, and sources whose second moment is their Fisher."""

from typing import Any

import numpy as np

from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.theorems import verbs
from kfac_core.theorems.drawn import SOFTMAX
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial


def _logits(trial: Trial) -> tuple[Matrix, Matrix]:
    """Return logits of at least two classes, and their probabilities."""
    n, _, o = trial.sizes
    logits = trial.rounded(trial.rng().standard_normal((n, o + 1)))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, p / p.sum(axis=1, keepdims=True)


def _gradients(p: Matrix) -> Matrix:
    """Return the gradient of each case for each class, ``[classes, batch, classes]``.

    It is that of the logarithm's negative: the probabilities less the class's unit.
    """
    return p[None, :, :] - np.eye(p.shape[1])[:, None, :]


def _fisher(p: Matrix) -> Matrix:
    return np.einsum("ni,ij->nij", p, np.eye(p.shape[1])) - np.einsum(
        "ni,nj->nij", p, p
    )


def _fisher_rows(loss: Any, logits: Any, vectors: Any) -> Any:
    return loss.multiply_fisher(logits, vectors)


def _factor_columns(loss: Any, logits: Any) -> tuple[Any, ...]:
    return tuple(
        loss.multiply_fisher_factor_replicated_one_hot(logits, (k,))
        for k in range(logits.shape[1])
    )


@theorem(
    "T5a",
    condition="softmax with probabilities p, each class c counted p_c times",
    claim="the sum over classes of g_c g_c' is diag(p) - p p'",
    source="enumeration of the targets",
    twin="classes counted alike",
)
def softmax_fisher_is_enumerated(trial: Trial, holds: bool) -> Measured:
    """Compare the loss's products with unit vectors and the sum over targets."""
    logits, p = _logits(trial)
    n, classes = p.shape
    units = np.broadcast_to(np.eye(classes)[:, None, :], (classes, n, classes))
    rows = trial.call(_fisher_rows, SOFTMAX, logits, np.array(units))
    g = _gradients(p)
    weights = p if holds else np.full_like(p, 1 / classes)
    enumerated = np.einsum("nc,cni,cnj->inj", weights, g, g)
    return trial.judged(rows, enumerated, terms=classes, size=classes)


@theorem(
    "T5b",
    condition="softmax, all columns of its factor B",
    claim="B B' = diag(p) - p p'",
    source="Tanabe & Sagae (1992)",
    twin="one column left out",
)
def softmax_factor_is_a_root(trial: Trial, holds: bool) -> Measured:
    """Square the factor that exact estimation takes its gradients from."""
    logits, p = _logits(trial)
    columns = np.stack(trial.call(_factor_columns, SOFTMAX, logits))
    kept = columns if holds else columns[1:]
    found = np.einsum("cni,cnj->nij", kept, kept)
    return trial.judged(found, _fisher(p), terms=p.shape[1], size=p.shape[1])


@theorem(
    "T30",
    condition="m sources, each times the root of its weight",
    claim="G is the weighted mean over targets, the Fisher of the outputs",
    source="Martens & Grosse (2015), section 5: expectation over targets",
    twin="each times its weight",
)
def sources_carry_roots_of_weights(trial: Trial, holds: bool) -> Measured:
    """Give a block every target once, in place of samples."""
    _, p = _logits(trial)
    n, classes = p.shape
    weights = np.sqrt(p) if holds else p
    sources = tuple((g,) for g in _gradients(p) * weights.T[:, :, None])
    x = np.ones((n, 1))
    block = FullyConnectedKFACBasicFB(1, classes)
    _, g = trial.call(verbs.moments, block, (x, sources))
    truth = _fisher(p).mean(axis=0)
    return trial.judged(g, truth, terms=n * classes, size=classes)


THEOREMS = (
    softmax_fisher_is_enumerated,
    softmax_factor_is_a_root,
    sources_carry_roots_of_weights,
)
