"""The eigenvalues of a batch: mean squares of the entries of case gradients."""

from typing import Any

from kfac_core.backend import Backend
from kfac_core.fisher_blocks.eigenvalue_corrected.cases import Cases, Data, cases_of
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.rows.counts import count_of
from kfac_core.statistics.case_gradients import (
    squared_entries,
    squared_entries_of_ids,
)
from kfac_core.statistics.weighted_rows import weigh, weighed_pair
from kfac_core.typing import Array, Scalar

Bases = tuple[Eigenbasis, Eigenbasis]
"""The eigenbases of inputs and of gradients."""


def mean_squares(
    backend: Backend, block: Any, bases: Bases, data: Data, num_cases: Scalar | None
) -> Array:
    """Return the mean squares of the entries of case gradients in two bases.

    Sources are summed, and towers are taken together.

    Args:
        backend: Backend of the data.
        block: The block, which has checked the data.
        bases: The bases.
        data: The data.
        num_cases: Number of cases that the mean loss divides by; None: those given.

    Returns:
        ``[rows, columns]``.

    Raises:
        ArgumentError: If `num_cases` is not positive.
    """
    towers = cases_of(block, backend, data)
    first, *others = [
        _squares(backend, bases, cases, g) for cases in towers for g in cases.gradients
    ]
    total: Array = sum(others, first)
    count = count_of(backend, num_cases, 1, data.like, block.label)
    if count is None:
        return total / sum(cases.gradients[0].shape[0] for cases in towers)
    return total / count


def _squares(backend: Backend, bases: Bases, cases: Cases, g: Array) -> Array:
    """Return the squared entries of the gradients of one source, summed over cases."""
    x, weights = cases.inputs, cases.weights
    if backend.isdtype(x.dtype, "integral"):
        if weights is not None:
            root = backend.xp.sqrt(weights) if weights.ndim == 1 else weights
            g = weigh(backend, g, root)
        size = bases[0].dimension
        return squared_entries_of_ids(backend, size, bases[1], x, g)
    if weights is not None:
        x, g = weighed_pair(backend, x, g, weights)
    return squared_entries(backend, bases, x, g)
