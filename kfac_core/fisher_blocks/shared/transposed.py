"""KFC of a transposed convolution that every case uses several times."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from kfac_core.backend import Backend
from kfac_core.fisher_blocks.base.parts import PartsState
from kfac_core.fisher_blocks.convolution.transposed import TransposedConvKFCBasicFB
from kfac_core.fisher_blocks.convolution.transposed_parts import (
    known_weights,
    spread_data,
)
from kfac_core.fisher_blocks.shared.convolution import (
    ConvKFCBasicMultiIndepFB,
    GroupedConvKFCBasicMultiIndepFB,
)
from kfac_core.rows.counts import count_of
from kfac_core.rows.images import (
    SharedImages,
    SharedLayer,
    backend_of_uses,
    count_cases,
    shared_images,
)
from kfac_core.rows.uses import MultiTowers
from kfac_core.rows.weights import in_rows, sides
from kfac_core.typing import Array, RowWeights, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class TransposedConvKFCBasicMultiIndepFB(TransposedConvKFCBasicFB):
    """KFC of a shared transposed convolution, its uses taken to be independent.

    It is a `TransposedConvKFCBasicFB` whose locations are those of all uses. A bias
    with a block of its own is exact: its gradient is the sum over all uses.
    ``tf.contrib.kfac`` has no such block.

    Attributes:
        geometry: As in `TransposedConvKFCBasicFB`; its data format is that of one use.
        output_padding: As in `TransposedConvKFCBasicFB`.
        has_bias: Whether the layer has a bias.
        locations: ``"input"`` or ``"output"``.
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((2, 1, 1), padding="VALID", strides=2)
        >>> block = TransposedConvKFCBasicMultiIndepFB(
        ...     geometry, has_bias=True, num_uses=2
        ... )
        >>> x = np.asarray([1.0, 2.0]).reshape(2, 1, 1)  # one case, two uses
        >>> g = np.asarray([1.0, 0.0, 1.0, 2.0]).reshape(2, 2, 1)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[ 5.,  5.,  0.],
               [ 5., 10.,  0.],
               [ 0.,  0., 16.]])
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    _kinds_of_outputs: ClassVar[tuple[Any, Any]] = (
        ConvKFCBasicMultiIndepFB,
        GroupedConvKFCBasicMultiIndepFB,
    )

    def update_covs(
        self,
        state: PartsState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> PartsState:
        """Fold a batch into the statistics of all factors.

        Args:
            state: The state; left as it is.
            inputs: One tower, in a form of `kfac_core.rows.uses`, each use ``[batch,
                ..spatial.., in_channels]``, or channels first; or a tuple of these
                (towers, weighted by their rows). Images of several sizes come as
                `kfac_core.typing.Uses`.
            outputs_grads: Gradients of the summed loss for the outputs of all uses, in
                any of the forms of `inputs`; or a tuple of these (towers); or a tuple
                of such tuples (sources, summed).
            ema_decay: As in `TransposedConvKFCBasicFB.update_covs`.
            ema_weight: As in `TransposedConvKFCBasicFB.update_covs`.
            weights: How much each case counts, ``[batch]``, or each use of each, ``[T,
                batch]``, ``[T * batch]`` or `Uses`; or a tuple of these (towers). None:
                one each. They may have axes for locations, as in
                `TransposedConvKFCBasicFB.update_covs`.
            num_cases: As in `TransposedConvKFCBasicFB.update_covs`.

        Returns:
            The new state.

        Raises:
            KfacError: As `TransposedConvKFCBasicFB.update_covs`.
            ArgumentError: Also if the number of uses is not known, not `num_uses`, or
                not the same for all data.
        """
        ok, layer = self._own(state).ok, self._layer_of_uses
        backend = backend_of_uses(self.label, ok, inputs, outputs_grads)
        like = state.parts[0].scale
        images = shared_images(backend, inputs, outputs_grads, layer, self._check_pair)
        known = self._in_rows(backend, images, weights, like)
        by_use = partial(images.by_use, backend, batch_first=self.batch_first)
        weights_by_use: Any = None
        if known is not None:
            weights_by_use = RowWeights(*(w if w is None else by_use(w) for w in known))
        data: tuple[Any, ...] = (images.inputs, images.gradients)
        of_uses = {"weights": weights_by_use, "num_cases": num_cases}
        of_parts: list[tuple[Any, Any]]
        if self.locations == "output":
            x, gradients = spread_data(backend, self.window, *data)
            of_parts = [((by_use(x), tuple(map(by_use, gradients))), of_uses)]
        else:
            count = count_of(backend, num_cases, images.uses, like, self.label)
            options = {"weights": known, "num_cases": count, "num_uses": images.uses}
            of_parts = [(data, options)]
            if self.has_bias:
                bias = tuple(map(by_use, images.gradients))
                of_parts.append(((bias,), of_uses))
        return self._folded(backend, state, of_parts, (ema_decay, ema_weight))

    def count_cases(self, inputs: MultiTowers) -> int:
        """Return the number of cases in all towers, each counted once."""
        return count_cases(inputs, self._layer_of_uses)

    @property
    def _layer_of_uses(self) -> SharedLayer:
        rank = self.geometry.window.spatial_rank + 2
        return SharedLayer(self.label, rank, self.num_uses, self.batch_first)

    def _check_pair(self, inputs: Array, gradients: Array) -> None:
        channels = self.geometry.shape[-2]
        self.window.check(inputs, gradients, channels, self.out_channels, self.label)

    def _in_rows(
        self,
        backend: Backend,
        images: SharedImages,
        weights: Weights | None,
        like: Array,
    ) -> RowWeights | None:
        """Return the weights of rows, beside the arrays of inputs; None for None."""
        if weights is None:
            return None
        of_inputs, adjoint = self.locations == "input", self.window.adjoint
        seen = images.inputs if of_inputs else images.gradients[0]
        shapes = [(x.shape[0], *adjoint.spatial_of(x)) for x in seen]
        found: list[Any] = []
        for own in sides(weights):
            checked = images.weights(backend, own, shapes, like, self._layer_of_uses)
            slow = self.batch_first
            rows = [in_rows(backend, w, case_slow=slow) for w in checked or ()]
            found.append(None if checked is None else tuple(rows))
        return known_weights(
            backend,
            self.window,
            RowWeights(*found),
            (images.inputs, images.gradients[0]),
            like,
            self.label,
            of_inputs=of_inputs,
            has_bias=self.has_bias,
        )
