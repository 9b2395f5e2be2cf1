"""KFC of a convolution that every case uses several times, whole or in groups.

Each use of a case is a case of its own, which the factors then see.
"""

from dataclasses import dataclass, field

from kfac_core.arguments.random_keys import check_key
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.convolution.grouped import GroupedConvKFCBasicFB
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.kronecker.statistics import KroneckerStatisticsFB
from kfac_core.rows import images as rows_of
from kfac_core.rows.counts import Counts, counted, counted_uses
from kfac_core.rows.images import SharedImages
from kfac_core.rows.uses import MultiTowers
from kfac_core.rows.weights import sides
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.typing import (
    Array,
    Key,
    RowWeights,
    Scalar,
    Sources,
    Towers,
    Weights,
)


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


@takes_older_calls
@dataclass(frozen=True)
class ConvKFCBasicMultiIndepFB(SharedConvolutionFB, ConvKFCBasicFB):
    """KFC of a shared convolution, its uses taken to be independent.

    ``F = P T kron(E[p p'], E[g g'])`` for ``P`` locations and ``T`` uses, the means
    over cases, locations and uses. Where uses differ in size, as on the levels of a
    pyramid, ``P T`` is the number of locations of all uses. ``tf.contrib.kfac``
    mistakes the number of uses for a request to sample the cases.

    Attributes:
        geometry: The convolution's geometry; its data format is that of one use.
        has_bias: Whether the layer has a bias.
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((1, 1, 1, 1), padding="VALID")
        >>> block = ConvKFCBasicMultiIndepFB(geometry, num_uses=2)
        >>> x, g = np.ones((2, 3, 3, 1)), np.ones((2, 3, 3, 1))  # one case, two uses
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[18.]])
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    def update_covs(
        self,
        state: KroneckerState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        key: Key = None,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> KroneckerState:
        """Fold a batch into the statistics of both factors.

        Args:
            state: The state; left as it is.
            inputs: One tower, in a form of `kfac_core.rows.uses`, each use an image
                ``[batch, ..spatial.., in_channels]``, or channels first; or a tuple of
                these (towers, weighted by their rows). Images of several sizes come as
                `kfac_core.typing.Uses`.
            outputs_grads: Gradients of the summed loss for the outputs of all uses,
                ``[batch, ..locations.., out_channels]`` each, or channels first, and in
                any of the forms of `inputs`; or a tuple of these (towers); or a tuple
                of such tuples (sources, summed).
            ema_decay: As in `ConvKFCBasicFB.update_covs`.
            ema_weight: As in `ConvKFCBasicFB.update_covs`.
            key: As in `ConvKFCBasicFB.update_covs`.
            weights: How much each case counts, ``[batch]``, or each use of each, ``[T,
                batch]``, ``[T * batch]`` or `Uses`, perhaps with axes for locations; or
                a tuple of these (towers). None: one each.
            num_cases: As in `ConvKFCBasicFB.update_covs`.

        Returns:
            The new state.

        Raises:
            KfacError: As `ConvKFCBasicFB.update_covs`.
            ArgumentError: Also if the number of uses is not known, not `num_uses`, or
                not the same for all data.
        """
        backend = self._shared_backend(state, inputs, outputs_grads)
        images = self._images(backend, inputs, outputs_grads)
        options = {"key": key} if self.needs_key else {}
        if not options:
            check_key(backend, key, state.scale, self.label)
        counts = self._shared_counts(backend, images, weights, num_cases, state.scale)
        data, ema = (images.inputs, images.gradients), (ema_decay, ema_weight)
        return self._fold(backend, state, data, counts, *ema, **options)


@dataclass(frozen=True)
class GroupedConvKFCBasicMultiIndepFB(SharedConvolutionFB, GroupedConvKFCBasicFB):
    """KFC of a shared grouped convolution: a `ConvKFCBasicMultiIndepFB` for each group.

    ``F = blockdiag(P T kron(E[p_i p_i'], E[g_i g_i']))`` over groups ``i``, for ``P``
    locations and ``T`` uses. Each group is damped with its own pi. ``tf.contrib.kfac``
    has no such block.

    Attributes:
        geometry: As in `GroupedConvKFCBasicFB`; its data format is that of one use.
        has_bias: Whether the layer has a bias, ``[out_channels]``.
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry(
        ...     (1, 1, 1, 2), num_groups=2, padding="VALID"
        ... )
        >>> block = GroupedConvKFCBasicMultiIndepFB(geometry, num_uses=2)
        >>> x = np.asarray([1.0, 2.0, 3.0, 0.0]).reshape(2, 1, 1, 2)  # one case
        >>> g = np.asarray([3.0, 1.0, 1.0, 1.0]).reshape(2, 1, 1, 2)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[50.,  0.],
               [ 0.,  4.]])
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    def update_covs(
        self,
        state: KroneckerState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> KroneckerState:
        """Fold a batch into the statistics of both factors.

        Arguments and errors are those of `ConvKFCBasicMultiIndepFB.update_covs`; the
        data hold the channels of all groups.

        Returns:
            The new state.
        """
        backend = self._shared_backend(state, inputs, outputs_grads)
        images = self._images(backend, inputs, outputs_grads)
        counts = self._shared_counts(backend, images, weights, num_cases, state.scale)
        data = self._in_groups(backend, images.inputs, images.gradients)
        return self._fold(backend, state, data, counts, ema_decay, ema_weight)
