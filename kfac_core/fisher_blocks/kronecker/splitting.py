"""The damping of a Kronecker product, split between factors that are means by weight.

All of it is a formula of a few numbers: see
`kfac_core.fisher_blocks.kronecker.known_numbers`.
"""

from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.damping import (
    DampingType,
    normalize_damping,
    split_by_traces,
    split_damping,
)
from kfac_core.typing import Array


class Splitting(NamedTuple):
    """How a block splits its damping.

    Attributes:
        kind: Name of the split; not ``"exact"``, which splits nothing.
        power: The damping is divided by ``c`` to this power.
        sizes: Numbers of rows of both factors.
        by_weight: For each factor, whether it is a mean by weight: it then lacks the
            root of the mean weight ``w``.
    """

    kind: DampingType
    power: float
    sizes: tuple[int, int]
    by_weight: tuple[bool, bool]

    def of(
        self,
        backend: Backend,
        damping: Array,
        scale: Array,
        mean: Array,
        *traces: Array,
    ) -> tuple[Array, Array]:
        """Return the dampings of both factors.

        Args:
            backend: Backend of the numbers.
            damping: 0-d, as given.
            scale: 0-d, ``c``.
            mean: 0-d, the mean weight ``w``.
            *traces: 0-d, the traces of both factors, which the split ``"pi"`` needs.

        Returns:
            Two 0-d arrays.
        """
        normal, weighted = damping, any(self.by_weight)
        if self.power != 1:
            normal = damping * normalize_damping(scale, scale, self.power)
        normal = normalize_damping(normal, scale, 1.0)
        if self.kind == "pi":
            if weighted:
                traces = self._times(traces, backend.xp.sqrt(mean))
            first, second = traces
            split = split_by_traces(backend, normal, (first, second), self.sizes)
        else:
            if self.kind == "constant":
                # It is that of the means by weight: as if all rows had the weight one.
                normal = normal * backend.xp.sqrt(mean)
            no_pi = backend.xp.ones_like(normal)
            split = split_damping(backend, self.kind, normal, no_pi)
        if weighted:
            split = self._times(split, 1 / backend.xp.sqrt(mean))
        return split

    def _times(self, pair: tuple[Array, ...], root: Array) -> tuple[Array, Array]:
        """Return two numbers, those of means by weight times another."""
        first, second = (
            x * root if own else x for x, own in zip(pair, self.by_weight, strict=True)
        )
        return first, second
