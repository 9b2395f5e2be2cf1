"""`RowsFactor`: a second moment of rows, stored whole or as its diagonal.

`MultiUseRowsFactor` is that of a shared layer, the rows of all uses alike.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kfac_core.arguments import as_sources, check_towers
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base import FisherFactor
from kfac_core.fisher_factors.state import FactorState
from kfac_core.moving_average import Sample
from kfac_core.typing import Array, Scalar, Uses
from kfac_core.uses import MultiSources, arrays_of, in_parts


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

        Returns:
            The new state.

        Raises:
            ShapeError: If an array is not ``[rows, size]``, or there is no row.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or the weight is out of range.
        """
        sources = as_sources(tensors)
        arrays = (x for towers in sources for tower in towers for x in arrays_of(tower))
        backend = self._backend(state, *arrays)
        by_source = [self._rows(backend, towers) for towers in sources]
        dtype, shape = state.cov.total.dtype, ("rows", self.size)
        samples = []
        for rows in by_source:
            checked = check_towers(
                backend, rows, dtype, shape, self.data_name, self.label
            )
            samples.append(self._sample(backend, checked))
        data = {self.data_name: tuple(by_source)}
        return self._accumulate(backend, state, samples, ema_decay, ema_weight, data)

    def _rows(self, backend: Backend, towers: tuple[Any, ...]) -> tuple[Array, ...]:
        """Return all arrays of rows: the uses of a tower are rows as any other."""
        return tuple(x for tower in towers for x in arrays_of(tower))

    def _sample(self, backend: Backend, rows: Sequence[Array]) -> Array | Sample:
        """Return the statistics, or what adds them to the average."""
        return self._moment(backend, rows)

    @abstractmethod
    def _moment(self, backend: Backend, rows: Sequence[Array]) -> Array:
        """Return the statistics of all rows of all arrays."""


@dataclass(frozen=True)
class MultiUseRowsFactor(RowsFactor):
    """Abstract base of the factors that average over the rows of all uses.

    In `update_cov` a tower has a form of `kfac_core.uses`.
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    def _rows(self, backend: Backend, towers: tuple[Any, ...]) -> tuple[Array, ...]:
        rows: list[Array] = []
        for tower in towers:
            uses = self.num_uses
            if uses is None and not isinstance(tower, Uses) and tower.ndim == 2:
                uses = 1  # any number would do: all rows count alike
            parts, _ = in_parts(
                backend,
                tower,
                2,
                uses,
                self.data_name,
                self.label,
                batch_first=self.batch_first,
                in_order=False,
            )
            rows.extend(parts)
        return tuple(rows)
