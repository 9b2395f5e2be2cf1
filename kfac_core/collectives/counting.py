"""`Counted`: a collective that counts what is handed to it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from kfac_core.collectives.protocol import Collective, Splittable, Starting
from kfac_core.errors import UnsupportedError
from kfac_core.registry import backend_of
from kfac_core.typing import Array


class Counted:
    """A `Collective` that counts the calls and bytes of another.

    The bytes are those of the arrays, once a call: how often an engine sends them is
    its own choice. Compare them with `kfac_core.collectives.step_costs`.

    Args:
        collective: Does the work.

    Attributes:
        reduced: Bytes that were summed.
        copied: Bytes that were broadcast, by the rank that they came from.
        calls: Number of calls.

    Example:
        >>> import numpy as np
        >>> from kfac_core.collectives import SingleProcess
        >>> counted = Counted(SingleProcess())
        >>> _ = counted.all_reduce(np.zeros((2, 3)))
        >>> counted.reduced
        48
    """

    def __init__(self, collective: Collective) -> None:
        self._collective = collective
        self._groups: list[Counted] = []
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.reduced, self.calls = 0, 0
        self.copied: dict[int, int] = {}
        for group in self._groups:
            group.reset()

    @property
    def received(self) -> int:
        """Bytes that came from other ranks by a broadcast, those of groups included."""
        others = sum(own for root, own in self.copied.items() if root != self.rank)
        return others + sum(group.received for group in self._groups)

    @property
    def rank(self) -> Any:
        """That of the other."""
        return self._collective.rank

    @property
    def size(self) -> int:
        """That of the other."""
        return self._collective.size

    def all_reduce(self, x: Array) -> Array:
        """Return the sum, and count the array."""
        self.calls, self.reduced = self.calls + 1, self.reduced + bytes_of(x)
        return self._collective.all_reduce(x)

    def start_all_reduce(self, x: Array) -> Callable[[], Array]:
        """Begin a sum, if the other can, else sum at once; and count the array."""
        if not isinstance(self._collective, Starting):
            total = self.all_reduce(x)
            return lambda: total
        self.calls, self.reduced = self.calls + 1, self.reduced + bytes_of(x)
        return self._collective.start_all_reduce(x)

    def broadcast(self, x: Array, root: int) -> Array:
        """Return the copy, and count the array."""
        self.calls += 1
        self.copied[root] = self.copied.get(root, 0) + bytes_of(x)
        return self._collective.broadcast(x, root)

    def split(self, groups: Sequence[Sequence[int]]) -> "Counted":
        """Return the group of this rank, which counts for itself.

        Raises:
            UnsupportedError: If the other cannot be split.
        """
        if not isinstance(self._collective, Splittable):
            msg = (
                f"Counted: a {type(self._collective).__name__} has no method split, and"
                " its ranks cannot talk in groups"
            )
            raise UnsupportedError(msg)
        group = Counted(self._collective.split(groups))
        self._groups.append(group)
        return group


def bytes_of(x: Array) -> int:
    """Return the number of bytes of an array's numbers."""
    backend, size = backend_of(x), math.prod(x.shape)
    if backend.isdtype(x.dtype, "bool"):
        return size
    is_real = backend.isdtype(x.dtype, "real floating")
    info = backend.finfo(x.dtype) if is_real else backend.xp.iinfo(x.dtype)
    return size * (int(info.bits) // 8)
