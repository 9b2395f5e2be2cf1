"""Convolutions whose uses are cases of their own, which their factors then see."""

from kfac_core.backend import Backend
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.kronecker.statistics import KroneckerStatisticsFB
from kfac_core.rows import images as rows_of
from kfac_core.rows.counts import Counts, counted, counted_uses
from kfac_core.rows.images import SharedImages
from kfac_core.rows.uses import MultiTowers
from kfac_core.rows.weights import sides
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.typing import Array, RowWeights, Scalar, Sources, Towers, Weights


class SharedConvolutionFB(KroneckerStatisticsFB):
    """Abstract base of convolutions that every case uses several times.

    Subclasses make these their fields, with defaults.

    Attributes:
        geometry: The convolution's geometry; its data format is that of one use.
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.
    """

    geometry: ConvolutionGeometry
    num_uses: int | None
    batch_first: bool

    def count_cases(self, inputs: MultiTowers) -> int:
        """Return the number of cases in all towers, each counted once."""
        return rows_of.count_cases(inputs, self._layer_of_uses)

    @property
    def _layer_of_uses(self) -> rows_of.SharedLayer:
        rank = self.geometry.window.spatial_rank + 2
        return rows_of.SharedLayer(self.label, rank, self.num_uses, self.batch_first)

    def _shared_backend(
        self, state: KroneckerState, inputs: Towers, outputs_grads: Sources
    ) -> Backend:
        """Return the backend of the state and of all data."""
        like = self._own(state).scale
        return rows_of.backend_of_uses(self.label, like, inputs, outputs_grads)

    def _images(
        self, backend: Backend, inputs: Towers, outputs_grads: Sources
    ) -> SharedImages:
        """Return inputs and gradients as arrays of all rows, checked."""
        return rows_of.shared_images(
            backend, inputs, outputs_grads, self._layer_of_uses, self._check_pair
        )

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
                images.weights(backend, own, shapes, like, self._layer_of_uses),
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
