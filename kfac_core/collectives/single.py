"""`SingleProcess`: the collective of one process, which has nobody to wait for."""

from collections.abc import Sequence
from dataclasses import dataclass

from kfac_core.typing import Array


@dataclass(frozen=True)
class SingleProcess:
    """A `Collective` of one rank.

    Example:
        >>> import numpy as np
        >>> SingleProcess().all_reduce(np.arange(3.0))
        array([0., 1., 2.])
    """

    @property
    def rank(self) -> int:
        """Zero."""
        return 0

    @property
    def size(self) -> int:
        """One."""
        return 1

    def all_reduce(self, x: Array) -> Array:
        """Return the array itself."""
        return x

    def broadcast(self, x: Array, root: int) -> Array:
        """Return the array itself."""
        return x

    def split(self, groups: Sequence[Sequence[int]]) -> "SingleProcess":
        """Return itself, the one group that there is."""
        return self
