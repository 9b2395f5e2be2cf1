"""Statistics of a share of the cases: less arithmetic, of the same expectation.

The statistics of a layer are means over its cases. The mean over a share of them has
the same expectation, where each case is in the share as often as any other. No random
numbers are needed for that: of ``n`` cases, ``m`` are taken that are evenly spaced,
counted around, from a place that moves on by one with every batch. So the mean over
``n`` turns of one batch is that of all its cases, exactly. After ``n`` batches the
place jumps as well: else an epoch of as many batches as there are cases between two
that are taken, in a fixed order, would show the same cases of each batch for ever.

It costs variance: that of a statistic of ``m`` cases. The cost of forward and backward
passes stays, since they are those of the training.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Self

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.estimator.layer_data import LayerGiven
from kfac_core.layer_collection import LayerRegistration
from kfac_core.typing import Array, RowWeights, Uses

_GOLDEN, _ROUNDS = 2531, 4096
"""Multiples of their ratio, the golden one, fill [0, 1) evenly, whatever the stride."""


def check_share(share: object, label: str) -> float:
    """Return a share as a float.

    Raises:
        ArgumentError: Unless it is a number above 0 and at most 1.
    """
    is_number = isinstance(share, Real) and not isinstance(share, bool)
    if not is_number or not 0 < float(share) <= 1:  # type: ignore[arg-type]
        msg = (
            f"{label}: statistics_share is {share!r}, expected a number above 0 and at"
            " most 1, which takes all cases"
        )
        raise ArgumentError(msg)
    return float(share)  # type: ignore[arg-type]


class Turn:
    """Which cases of a batch are in the share.

    Args:
        backend: Backend of the data.
        share: The share, in (0, 1].
        place: 0-d integer, how many batches there were before.
    """

    def __init__(self, backend: Backend, share: float, place: Array) -> None:
        self._backend, self._share, self._place = backend, share, place
        self._known: dict[int, Array] = {}

    @classmethod
    def after(cls, backend: Backend, share: float, cases: Any, batch_size: int) -> Self:
        """Return the turn after so many cases, in batches of one size."""
        return cls(backend, share, cases // batch_size)

    def taken(self, cases: int) -> int:
        """Return how many of so many cases are taken; a fraction is rounded up."""
        return max(1, math.ceil(round(self._share * cases, 9)))

    def places(self, cases: int) -> Array:
        """Return which of so many cases are taken."""
        if cases not in self._known:
            # Not by NumPy, whose arrays a compiler could not take for constants.
            xp, place = self._backend.xp, self._place
            count, device = self.taken(cases), self._backend.creation_device(place)
            spaced = xp.arange(count, dtype=place.dtype, device=device) * cases
            rounds = xp.floor_divide(place, cases)
            jump = xp.remainder(xp.remainder(rounds, _ROUNDS) * _GOLDEN, _ROUNDS)
            jump = xp.floor_divide(jump * cases, _ROUNDS)
            moved = xp.floor_divide(spaced, count) + xp.remainder(place, cases) + jump
            self._known[cases] = xp.remainder(moved, cases)
        return self._known[cases]

    def of(self, layer: LayerRegistration, given: LayerGiven, cases: int) -> LayerGiven:
        """Return the share of what the block of a layer is given.

        All is returned where the axis of the cases is not plain to see: uses that are
        rows one after another, or towers whose shares would not be equal.

        Args:
            layer: The layer, with sites.
            given: What its block is given of the batch.
            cases: Number of cases that reach the layer.
        """
        data, options = given
        towers = data[0] if layer.block.takes_inputs else data[0][0]
        axis = _axis_of_cases(layer.block, towers)
        sizes = [_size(tower, axis) for tower in towers]
        counts = [self.taken(size) for size in sizes]
        if (
            sum(sizes) != cases
            or counts == sizes
            or any(
                m * sizes[0] != counts[0] * n
                for m, n in zip(counts, sizes, strict=True)
            )
        ):
            return given
        weights = options.get("weights")
        parts = [*data, *(() if weights is None else weights)]
        if not all(_fits(part, sizes, axis) for part in parts):
            return given
        found = [self._share_of(part, sizes, axis) for part in parts]
        own = dict(options)
        if weights is not None:
            own["weights"] = RowWeights(*found[len(data) :])
        if "num_cases" in own:
            own["num_cases"] = own["num_cases"] * (counts[0] / sizes[0])
        return LayerGiven(tuple(found[: len(data)]), own)

    def _share_of(self, part: Any, sizes: Sequence[int], axis: int) -> Any:
        """Return the share of towers, or of sources of towers."""
        if _are_sources(part):
            return tuple(self._share_of(source, sizes, axis) for source in part)
        return tuple(
            tree.map(lambda x, n=n: self._rows(x, n, axis), tower)
            for tower, n in zip(part, sizes, strict=True)
        )

    def _rows(self, x: Any, cases: int, axis: int) -> Any:
        own = _axis_in(x, cases, axis)
        return self._backend.xp.take(x, self.places(cases), axis=own)


def _axis_of_cases(block: Any, towers: Sequence[Any]) -> int:
    """Return the axis of the cases in the arrays of a layer."""
    # A block around that of the layer reads the data as that block does.
    own = getattr(block, "block", block)
    said_by_data = getattr(own, "num_uses", 0) is None
    if not said_by_data or any(isinstance(tower, Uses) for tower in towers):
        return 0
    return 0 if own.batch_first else 1


def _are_sources(part: Any) -> bool:
    """Return whether an argument has towers for each source."""
    return bool(part) and type(part[0]) is tuple


def _size(tower: Any, axis: int) -> int:
    first, *_ = tree.leaves(tower) or (None,)
    shape = getattr(first, "shape", ())
    return int(shape[axis]) if len(shape) > axis else 0


def _axis_in(x: Any, cases: int, axis: int) -> int | None:
    """Return the axis of the cases in an array; None: there is none."""
    shape: tuple[int, ...] = tuple(getattr(x, "shape", ()))
    if len(shape) > axis:
        return axis if shape[axis] == cases else None
    return 0 if len(shape) == 1 and shape[0] == cases else None


def _fits(part: Any, sizes: Sequence[int], axis: int) -> bool:
    """Return whether all arrays of towers have an axis of their cases."""
    if _are_sources(part):
        return all(_fits(source, sizes, axis) for source in part)
    return len(part) == len(sizes) and all(
        _axis_in(x, n, axis) is not None
        for tower, n in zip(part, sizes, strict=True)
        for x in tree.leaves(tower)
    )
