"""`RowsFactor`: a second moment of rows, stored whole or as its diagonal.

`MultiUseRowsFactor` is the factor of a shared layer; the rows of all uses count alike.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kfac_core.arguments import as_sources, as_towers, check_towers
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.moving_average import Sample
from kfac_core.row_counts import count_of
from kfac_core.row_weights import check_same_towers, roots_of, weights_of_parts
from kfac_core.statistics.weighted_rows import Rows, weighed
from kfac_core.typing import Array, Scalar, Uses, Weights
from kfac_core.uses import MultiSources, arrays_of, in_parts


class Parts(NamedTuple):
    """The rows of one tower.

    Attributes:
        arrays: Arrays of rows.
        uses: How many rows a case has.
        case_slow: Whether all rows of a case follow one another; if not, all rows of a
            use do.
    """

    arrays: tuple[Array, ...]
    uses: int
    case_slow: bool = False


@dataclass(frozen=True)
class RowsFactor(FisherFactor):
    """Abstract base of the factors that average over rows ``[rows, size]``."""

    size: int
    has_bias: bool = False
    data_name: str = field(default="tensors", kw_only=True)

    def update_cov(
        self,
        state: FactorState,
        tensors: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch into the average.

        Args:
            state: The state; left as it is.
            tensors: Rows ``[rows, size]``; or a tuple of these (towers, weighted by
                their rows); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each row counts, ``[rows]``, or a tuple of these (towers):
                zero for a case that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array is not ``[rows, size]``, or there is no row.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        sources = as_sources(tensors)
        arrays = [x for towers in sources for tower in towers for x in arrays_of(tower)]
        backend = self._backend(state, "state, tensors", *arrays)
        like, shape = state.cov.total, ("rows", self.size)
        samples: list[Array | Sample] = []
        given: list[tuple[Array, ...]] = []
        count = None
        for towers in sources:
            parts = self._in_parts(backend, towers)
            own = tuple([x for part in parts for x in part.arrays])
            rows = check_towers(
                backend, own, like.dtype, shape, self.data_name, self.label
            )
            if not samples:
                count = count_of(backend, num_cases, parts[0].uses, like, self.label)
            roots = self._roots(backend, parts, weights, like)
            samples.append(self._sample(backend, weighed(backend, rows, roots, count)))
            given.append(own)
        data = {self.data_name: tuple(given)}
        return self._accumulate(backend, state, samples, ema_decay, ema_weight, data)

    def _in_parts(self, backend: Backend, towers: tuple[Any, ...]) -> list[Parts]:
        """Return the rows of each tower."""
        found = []
        for tower in towers:
            arrays = arrays_of(tower)
            found.append(Parts(arrays, len(arrays)))
        return found

    def _roots(
        self,
        backend: Backend,
        parts: Sequence[Parts],
        weights: Weights | None,
        like: Array,
    ) -> tuple[Array, ...] | None:
        """Return the roots of the weights of all arrays."""
        if weights is None:
            return None
        towers = as_towers(weights)
        check_same_towers(towers, parts, self.label)
        each = (
            weights_of_parts(
                backend,
                w,
                own.arrays,
                own.uses,
                like,
                self.label,
                batch_first=self._is_batch_first,
                case_slow=own.case_slow,
            )
            for w, own in zip(towers, parts, strict=True)
        )
        return roots_of(backend, [w for own in each for w in own])

    @property
    def _is_batch_first(self) -> bool:
        """Whether the cases of weights come before their uses."""
        return False

    def _sample(self, backend: Backend, rows: Rows) -> Array | Sample:
        """Return the statistics, or what adds them to the average."""
        return self._moment(backend, rows)

    @abstractmethod
    def _moment(self, backend: Backend, rows: Rows) -> Array:
        """Return the statistics of all rows of all arrays."""


@dataclass(frozen=True)
class MultiUseRowsFactor(RowsFactor):
    """Abstract base of the factors that average over the rows of all uses.

    In `update_cov` a tower has a form of `kfac_core.uses`.
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    @property
    def _is_batch_first(self) -> bool:
        return self.batch_first

    def _in_parts(self, backend: Backend, towers: tuple[Any, ...]) -> list[Parts]:
        found = []
        for tower in towers:
            uses = self.num_uses
            if uses is None and not isinstance(tower, Uses) and tower.ndim == 2:
                uses = 1  # any number would do: all rows count alike
            parts, uses = in_parts(
                backend,
                tower,
                2,
                uses,
                self.data_name,
                self.label,
                batch_first=self.batch_first,
                in_order=False,
            )
            found.append(Parts(parts, uses, self._is_case_slow(tower)))
        return found

    def _is_case_slow(self, tower: Any) -> bool:
        """Return whether the rows of all uses of a case follow one another."""
        return self.batch_first and not isinstance(tower, Uses)
