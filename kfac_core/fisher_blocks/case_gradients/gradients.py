"""`CaseGradients`: the gradients of a batch's cases, as far as blocks need them."""

from functools import partial
from typing import Any, NamedTuple

from kfac_core.backend import Backend
from kfac_core.fisher_blocks.case_gradients.cases import cases_of
from kfac_core.fisher_blocks.case_gradients.towers import Cases, Data
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.rows.counts import count_of
from kfac_core.statistics.case_gradients import (
    squared_entries,
    squared_entries_of_ids,
    sum_at_ids,
)
from kfac_core.statistics.case_moments import (
    inputs_moment,
    inputs_moment_of_ids,
    outputs_moment_of_ids,
)
from kfac_core.statistics.weighted_rows import weigh, weighed_pair
from kfac_core.typing import Array, Scalar


class CaseGradients(NamedTuple):
    """Case gradients ``D_n = sum_t x_t g_t'``, which are never all formed at once.

    Sources are summed, and towers are taken together.

    Attributes:
        pairs: For each tower and source the inputs ``[cases, positions, rows]``, or ids
            ``[cases, positions]``, and the gradients ``[cases, positions, columns]``;
            weights of cases and positions are in the gradients.
        divisor: What sums over cases are divided by.
        sources: Number of sources; they are the pairs of a tower.
    """

    pairs: tuple[tuple[Array, Array], ...]
    divisor: Array | int
    sources: int = 1

    def mean_squares(
        self, backend: Backend, bases: tuple[Eigenbasis, Eigenbasis]
    ) -> Array:
        """Return the mean squares of the entries of ``D`` in two bases.

        Args:
            backend: Backend of the arrays.
            bases: The bases of inputs and of gradients.

        Returns:
            ``[rows, columns]``, of a layer in groups ``[groups, rows, columns]``.
        """

        def squares(x: Array, g: Array) -> Array:
            if _are_ids(backend, x):
                size = bases[0].dimension
                return squared_entries_of_ids(backend, size, bases[1], x, g)
            if x.ndim == 3:
                return squared_entries(backend, bases, x, g)
            of_group = partial(squared_entries, backend)
            by_group = [backend.xp.permute_dims(y, (2, 0, 1, 3)) for y in (x, g)]
            return backend.vmap(of_group, bases, *by_group)

        return self._mean([squares(x, g) for x, g in self.pairs])

    def inputs_moment(self, backend: Backend, like: Array, g: Array) -> Array:
        """Return the mean of ``D G D'``.

        Args:
            backend: Backend of the arrays.
            like: An array of the shape of the result: ``[rows, rows]``, or ``[rows]``
                for the diagonal of the mean.
            g: ``G``, ``[columns, columns]``, or its diagonal.
        """
        is_diagonal, size = like.ndim == 1, like.shape[0]
        return self._symmetric_mean(
            [
                inputs_moment_of_ids(backend, size, x, y, g)
                if _are_ids(backend, x)
                else inputs_moment(backend, x, y, g, is_diagonal=is_diagonal)
                for x, y in self.pairs
            ]
        )

    def outputs_moment(self, backend: Backend, like: Array, a: Array) -> Array:
        """Return the mean of ``D' A D``; see `inputs_moment`."""
        is_diagonal = like.ndim == 1
        return self._symmetric_mean(
            [
                outputs_moment_of_ids(backend, x, y, a, is_diagonal=is_diagonal)
                if _are_ids(backend, x)
                else inputs_moment(backend, y, x, a, is_diagonal=is_diagonal)
                for x, y in self.pairs
            ]
        )

    def means(self, backend: Backend, rows: int, columns: int) -> list[Array]:
        """Return the mean gradient of each source, ``[rows, columns]``."""
        sums = [
            sum_at_ids(backend, rows, x, g)
            if _are_ids(backend, x)
            else backend.cross(
                backend.xp.reshape(x, (-1, rows)), backend.xp.reshape(g, (-1, columns))
            )
            for x, g in self.pairs
        ]
        return [self._mean(sums[k :: self.sources]) for k in range(self.sources)]

    def _mean(self, sums: list[Array]) -> Array:
        first, *others = sums
        total: Array = sum(others, first) / self.divisor
        return total

    def _symmetric_mean(self, sums: list[Array]) -> Array:
        """Return the mean, symmetric bit for bit, or a diagonal."""
        mean = self._mean(sums)
        return mean if mean.ndim == 1 else (mean + mean.mT) / 2


def gradients_of(
    backend: Backend,
    block: Any,
    data: Data,
    num_cases: Scalar | None,
    *,
    is_of_means: bool = False,
) -> CaseGradients:
    """Return the case gradients of a batch.

    Args:
        backend: Backend of the data.
        block: The block of the layer, which has checked the data.
        data: The data.
        num_cases: Number of cases that the mean loss divides by; None: those given.
        is_of_means: Whether gradients are summed over cases: a case that counts twice
            then counts twice in the sum, and otherwise in squares.

    Returns:
        The gradients.

    Raises:
        ArgumentError: If `num_cases` is not positive.
    """
    towers = cases_of(block, backend, data)
    pairs = tuple(
        _weighed(backend, cases, g, is_of_means)
        for cases in towers
        for g in cases.gradients
    )
    count: Array | int | None = count_of(backend, num_cases, 1, data.like, block.label)
    if count is None:
        count = sum(cases.gradients[0].shape[0] for cases in towers)
    return CaseGradients(pairs, count, len(towers[0].gradients))


def _weighed(
    backend: Backend, cases: Cases, g: Array, is_of_means: bool
) -> tuple[Array, Array]:
    x, weights = cases.inputs, cases.weights
    if weights is None:
        return x, g
    if is_of_means and weights.ndim == 1:
        weights = weights[:, None]  # of each position
    if _are_ids(backend, x):
        root = backend.xp.sqrt(weights) if weights.ndim == 1 else weights
        return x, weigh(backend, g, root)
    return weighed_pair(backend, x, g, weights)


def _are_ids(backend: Backend, x: Array) -> bool:
    is_integral: bool = backend.isdtype(x.dtype, "integral")
    return is_integral
