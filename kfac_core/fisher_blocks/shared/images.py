"""The uses of a convolution as cases of their own, which its factors then see."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for, check_paired
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.kronecker.statistics import KroneckerStatisticsFB
from kfac_core.rows.counts import Counts, counted, counted_uses
from kfac_core.rows.sizes import Places, folded_by_size, places_of, weights_by_size
from kfac_core.rows.uses import MultiTowers, arrays_of, in_parts
from kfac_core.rows.weights import check_same_towers, sides
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.typing import Array, RowWeights, Scalar, Sources, Towers, Weights


class SharedImages(NamedTuple):
    """The data of a shared convolution, each use of a case as a case of its own.

    Attributes:
        inputs: For each tower, and each size of its images, ``[T * N, ...]``.
        gradients: For each source an array beside each of `inputs`.
        counts: For each of `inputs` the number of its uses.
        uses: ``T``: the number of uses of a tower, of all sizes.
        places: For each tower, which uses are of one size.
    """

    inputs: tuple[Array, ...]
    gradients: tuple[tuple[Array, ...], ...]
    counts: tuple[int, ...]
    uses: int
    places: tuple[Places, ...]

    @property
    def of_towers(self) -> list[slice]:
        """For each tower, where its arrays are."""
        ends = [0, *accumulate(len(own or (0,)) for own in self.places)]
        return [slice(*pair) for pair in pairwise(ends)]


@dataclass(frozen=True)
class SharedConvolutionFB(KroneckerStatisticsFB):
    """Abstract base of convolutions that every case uses several times.

    Attributes:
        geometry: The convolution's geometry; its data format is that of one use.
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.
    """

    geometry: ConvolutionGeometry
    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    def count_cases(self, inputs: MultiTowers) -> int:
        """Return the number of cases in all towers, each counted once."""
        towers = as_towers(inputs)
        arrays = (x for tower in towers for x in arrays_of(tower))
        backend = backend_for(self.label, "inputs", *arrays)
        rank, cases = self.geometry.window.spatial_rank + 2, 0
        for tower in towers:
            if places_of(tower) is not None:
                cases += arrays_of(tower)[0].shape[0]
                continue
            parts, uses = in_parts(
                backend,
                tower,
                rank,
                self.num_uses,
                "inputs",
                self.label,
                batch_first=self.batch_first,
                in_order=False,
            )
            cases += sum(x.shape[0] for x in parts) // uses
        return cases

    def _shared_backend(
        self, state: KroneckerState, inputs: Towers, outputs_grads: Sources
    ) -> Backend:
        """Return the backend of the state and of all data."""
        all_data = (as_towers(inputs), *as_sources(outputs_grads))
        arrays = (x for data in all_data for tower in data for x in arrays_of(tower))
        return backend_for(
            self.label, "state, inputs, outputs_grads", self._own(state).scale, *arrays
        )

    def _images(
        self, backend: Backend, inputs: Towers, outputs_grads: Sources
    ) -> SharedImages:
        """Return inputs and gradients as arrays of all rows, checked.

        Raises:
            ArgumentError: If gradients have another number of uses.
        """
        towers = as_towers(inputs)
        places = tuple(map(places_of, towers))
        x, counts, uses = self._folded(backend, towers, places, "inputs")
        gradients = []
        for source in as_sources(outputs_grads):
            own = (*places, *(None for _ in source[len(places) :]))[: len(source)]
            g, _, found = self._folded(backend, source, own, "outputs_grads")
            if found != uses:
                msg = (
                    f"{self.label}: the inputs have {uses} uses and outputs_grads"
                    f" {found}; give both for the same uses"
                )
                raise ArgumentError(msg)
            check_paired(x, g, self.label)
            for pair in zip(x, g, strict=True):
                self._check_pair(*pair)
            gradients.append(g)
        return SharedImages(x, tuple(gradients), counts, uses, places)

    def _folded(
        self,
        backend: Backend,
        towers: Sequence[Any],
        places: Sequence[Places],
        argument: str,
    ) -> tuple[tuple[Array, ...], tuple[int, ...], int]:
        """Return the towers as arrays of all rows, their uses, and ``T``."""
        arrays: list[Array] = []
        counts: list[int] = []
        totals = []
        for tower, own in zip(towers, places, strict=True):
            found, uses = folded_by_size(
                backend,
                tower,
                own,
                self.geometry.window.spatial_rank + 2,
                self.num_uses,
                argument,
                self.label,
                batch_first=self.batch_first,
            )
            arrays, counts = [*arrays, *found], [*counts, *uses]
            totals.append(sum(uses))
        if len(set(totals)) != 1:
            msg = (
                f"{self.label}: the towers of {argument} have {totals} uses, expected"
                " at least one tower, and as many uses in each"
            )
            raise ArgumentError(msg)
        return tuple(arrays), tuple(counts), totals[0]

    def _tower_shapes(self, images: SharedImages) -> list[tuple[int, ...]]:
        """Return ``(T * N, ..locations..)`` for each tower.

        Uses of several sizes have no locations in common.
        """
        rows = [x.shape[0] for x in images.inputs]
        return [
            self._weighted_shape(images.inputs[own.start])
            if places is None
            else (sum(rows[own]),)
            for places, own in zip(images.places, images.of_towers, strict=True)
        ]

    def _shared_counts(
        self,
        backend: Backend,
        images: SharedImages,
        weights: Weights | None,
        num_cases: Scalar | None,
        like: Array,
    ) -> Counts:
        """Return how much rows count, each use of a case as a case of its own."""
        shapes = [self._weighted_shape(x) for x in images.inputs]
        known = [
            counted_uses(
                backend,
                self._by_size(backend, own, images, shapes, like),
                shapes,
                images.uses,
                num_cases,
                like,
                self.label,
                batch_first=self.batch_first,
            )
            for own in sides(weights)
        ]
        locations = self._mean_uses(images.inputs)
        rows, all_uses = RowWeights(*(own for own, _ in known)), known[0][1]
        counts = counted(backend, rows, shapes, locations, all_uses, like, self.label)
        return counts._replace(uses=images.uses * locations)

    def _by_size(
        self,
        backend: Backend,
        weights: Any,
        images: SharedImages,
        shapes: Sequence[tuple[int, ...]],
        like: Array,
    ) -> tuple[Any, ...] | None:
        """Return the weights beside each array of inputs; None for None."""
        if weights is None:
            return None
        towers, found = as_towers(weights), []
        check_same_towers(towers, images.places, self.label)
        each = zip(towers, images.places, images.of_towers, strict=True)
        for own, places, here in each:
            found += weights_by_size(
                backend,
                own,
                places,
                shapes[here],
                images.counts[here],
                like,
                self.label,
                batch_first=self.batch_first,
            )
        return tuple(found)
