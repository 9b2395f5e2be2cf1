"""Where the block of an embedding is exact: one id a case, or the diagonal alone."""

import numpy as np

from kfac_core.reference import Dense, Embedding, Sequential, Tanh
from kfac_core.theorems import verbs
from kfac_core.theorems.drawn import HIDDEN, NARROW, Layer, layer_of, random_params
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import Measured, Trial

VOCABULARY = 4


def _embedded(
    trial: Trial,
    *,
    uses: int,
    is_curved: bool,
    batch: int | None = None,
    **options: str,
) -> Layer:
    rng, n = trial.rng(), trial.sizes.batch if batch is None else batch
    between = [Tanh()] if is_curved else []
    network = Sequential((Embedding(VOCABULARY, HIDDEN), *between, Dense(HIDDEN, 2)))
    ids = rng.integers(VOCABULARY, size=(n, uses))
    ids[:, 1:2] = ids[:, :1]  # where there are several, the first two agree
    params = random_params(network, rng)
    params = ((2 * params[0][0],), params[1])
    return layer_of(network, params, ids, NARROW, 0, **options)


def _input_factor(block: object, data: verbs.Data) -> object:
    return verbs.moments(block, data)[0]  # type: ignore[arg-type]


@theorem(
    "T19",
    condition="an embedding of one id a case",
    claim="A = diag(counts) / N",
    source="outer products of one-hot vectors",
    twin="several ids a case, all summed: A has entries off the diagonal",
)
def one_id_has_a_diagonal_factor(trial: Trial, holds: bool) -> Measured:
    """Compare with the second moment of the sums of one-hot vectors."""
    layer = _embedded(trial, uses=1 if holds else 4, is_curved=True, batch=9)
    ids = np.asarray(layer.data.inputs)
    bags = np.eye(VOCABULARY)[ids].sum(axis=1)
    found = trial.call(_input_factor, layer.block, tuple(layer.data))
    return trial.judged(found, bags.T @ bags / len(ids), terms=len(ids))


@theorem(
    "T19'",
    condition="one id a case, the mean of g g' the same for each id",
    claim="K = F",
    source="F has a block for each id",
    twin="means that differ",
)
def equal_means_are_exact(trial: Trial, holds: bool) -> Measured:
    """Let the loss be linear in the embedding, or not."""
    batch = None if holds else 20
    layer = _embedded(trial, uses=1, is_curved=not holds, batch=batch)
    size = len(layer.fisher)
    return trial.judged(layer.kfac(trial), layer.fisher, terms=layer.terms, size=size)


@theorem(
    "T19''",
    condition="several ids a case, counted squared",
    claim="K = F on the diagonal",
    source="an id that is used k times has k times the gradient",
    twin="each counted once",
)
def squared_counts_keep_the_diagonal(trial: Trial, holds: bool) -> Measured:
    """Compare the diagonals of block and Fisher."""
    counting = "count_squared" if holds else "count"
    layer = _embedded(trial, uses=4, is_curved=False, repeated_ids=counting)
    found, truth = np.diagonal(layer.kfac(trial)), np.diagonal(layer.fisher)
    return trial.judged(found, truth, terms=layer.terms, size=len(found))


THEOREMS = (
    one_id_has_a_diagonal_factor,
    equal_means_are_exact,
    squared_counts_keep_the_diagonal,
)
