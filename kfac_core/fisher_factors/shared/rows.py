"""Factors of shared layers whose rows of all uses count alike."""

from dataclasses import dataclass, field
from typing import Any

from kfac_core.backend import Backend
from kfac_core.fisher_factors.fully_connected import (
    FullyConnectedKroneckerFactor,
    Parts,
)
from kfac_core.rows.uses import in_parts
from kfac_core.typing import Uses


@dataclass(frozen=True)
class MultiUseRowsFactor(FullyConnectedKroneckerFactor):
    """Abstract base of the factors that average over the rows of all uses.

    In `update_cov` a tower has a form of `kfac_core.rows.uses`.
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
