"""The weights of a transposed convolution, seen from its input locations."""

import math
from dataclasses import dataclass
from typing import ClassVar

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for, check_paired
from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.fisher_blocks.convolution.grouped import GroupedKroneckerFB
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
from kfac_core.fisher_factors.convolution.transposed import (
    OutputPatchesKroneckerFactor,
)
from kfac_core.fisher_factors.grouped import GroupedKroneckerFactor
from kfac_core.rows.counts import counted
from kfac_core.rows.weights import sides, weights_for
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.groups import (
    grouped_gradients,
    grouped_patches,
)
from kfac_core.statistics.patches.transposed import (
    TransposedWindow,
    output_patches_image,
    spread_inputs_image,
)
from kfac_core.statistics.weighted_rows import as_rows
from kfac_core.typing import Array, RowWeights, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class TransposedWeightsFB(KroneckerProductFB):
    """``F = U kron(E[x x'], E[q q'])``: weights of a transposed convolution.

    ``x`` is the input at one of ``U`` locations, ``q`` the patch of output gradients
    that it touches. The parameters are ``[in_channels, ..kernel.., out_channels]``.

    Attributes:
        geometry: The transposed convolution's geometry.
        window: Where it looks.
    """

    geometry: ConvolutionGeometry
    window: TransposedWindow

    is_repeated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make the factors, once."""
        super().__post_init__()
        *_, channels, outputs = self.geometry.shape
        self._set_factors(
            FullyConnectedKroneckerFactor(
                channels, data_name="inputs", **self._factor_options("input")
            ),
            OutputPatchesKroneckerFactor(
                self.window, outputs, **self._factor_options("output")
            ),
        )

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
        num_uses: int = 1,
    ) -> KroneckerState:
        """Fold a batch whose shapes are checked; see `TransposedConvKFCBasicFB`."""
        # Rows are those of all uses, and `num_cases` counts each of these.
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = (g for source in sources for g in source)
        given = (self._own(state).scale, *towers, *gradients)
        backend = backend_for(self.label, "state, inputs, outputs_grads", *given)
        adjoint, ema = self.window.adjoint, (ema_decay, ema_weight)
        shape = (-1, self.geometry.shape[-2])
        rows = tuple(
            backend.xp.reshape(adjoint.to_channels_last(backend, x), shape)
            for x in towers
        )
        spatial = [adjoint.spatial_of(x) for x in towers]
        shapes = [
            (x.shape[0], *sizes) for x, sizes in zip(towers, spatial, strict=True)
        ]
        uses, like = mean_locations(self.window, towers), state.scale
        known = self._row_weights(backend, shapes, weights, like)
        counts = counted(backend, known, shapes, uses, num_cases, like, self.label)
        # The factor of the inputs sees each location as a case.
        of_inputs = as_rows(backend, known.inputs, shapes, uses, num_cases)
        counts = counts._replace(
            of_inputs=of_inputs,
            of_outputs={"spatial": spatial, **counts.of_outputs},
            uses=uses * num_uses,
        )
        return self._fold(backend, state, (rows, sources), counts, *ema)


@dataclass(frozen=True)
class TransposedGroupsFB(GroupedKroneckerFB):
    """A `TransposedWeightsFB` for each group of channels.

    The parameters are ``[in_channels of a group, groups * kernel * out_channels of a
    group]``.

    Attributes:
        geometry: The transposed convolution's geometry.
        window: Where it looks.
    """

    window: TransposedWindow

    def __post_init__(self) -> None:
        """Make the factors, once."""
        super().__post_init__()
        *kernel, channels, outputs = self.geometry.shape
        groups = self.geometry.num_groups
        self._set_factors(
            GroupedKroneckerFactor(
                groups,
                channels // groups,
                data_name="inputs",
                **self._factor_options("input"),
            ),
            GroupedKroneckerFactor(
                groups,
                math.prod(kernel) * outputs,
                data_name="outputs_grads",
                **self._factor_options("output"),
            ),
        )

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
        num_uses: int = 1,
    ) -> KroneckerState:
        """Fold a batch whose shapes are checked; see `TransposedConvKFCBasicFB`."""
        # Rows are those of all uses, and `num_cases` counts each of these.
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = (g for source in sources for g in source)
        given = (self._own(state).scale, *towers, *gradients)
        backend = backend_for(self.label, "state, inputs, outputs_grads", *given)
        window, groups = self.window, self.geometry.num_groups
        adjoint = window.adjoint
        rows = tuple(grouped_gradients(backend, x, adjoint, groups) for x in towers)

        def patches(x: Array, g: Array) -> Array:
            image, seen = output_patches_image(
                backend, g, window, adjoint.spatial_of(x)
            )
            return grouped_patches(backend, image, seen, groups)

        by_group = tuple(
            tuple(patches(x, g) for x, g in zip(towers, source, strict=True))
            for source in sources
        )
        shapes = [(x.shape[0], *adjoint.spatial_of(x)) for x in towers]
        uses, like = mean_locations(window, towers), state.scale
        of_rows = self._row_weights(backend, shapes, weights, like)
        counts = counted(backend, of_rows, shapes, uses, num_cases, like, self.label)
        counts, data = counts._replace(uses=uses * num_uses), (rows, by_group)
        return self._fold(backend, state, data, counts, ema_decay, ema_weight)


def mean_locations(window: TransposedWindow, towers: tuple[Array, ...]) -> float:
    """Return the number of input locations of a case, the mean over all towers."""
    cases = sum(x.shape[0] for x in towers)
    adjoint = window.adjoint
    rows = sum(x.shape[0] * math.prod(adjoint.spatial_of(x)) for x in towers)
    return rows / max(cases, 1)


def check_data(
    window: TransposedWindow,
    towers: tuple[Array, ...],
    sources: tuple[tuple[Array, ...], ...],
    in_channels: int,
    out_channels: int,
    label: str,
) -> None:
    """Check the shapes of towers and sources against each other."""
    for source in sources:
        check_paired(towers, source, label)
        for x, g in zip(towers, source, strict=True):
            window.check(x, g, in_channels, out_channels, label)


def known_weights(
    backend: Backend,
    window: TransposedWindow,
    weights: Weights | None,
    data: tuple[tuple[Array, ...], tuple[Array, ...]],
    like: Array,
    label: str,
    *,
    of_inputs: bool,
    has_bias: bool,
) -> RowWeights | None:
    """Return the weights of inputs and of gradients, checked; None for None.

    Args:
        backend: Backend of the data.
        window: Where the transposed convolution looks.
        weights: As in `TransposedConvKFCBasicFB.update_covs`.
        data: The inputs and the gradients of all towers.
        like: Array that gives the dtype.
        label: Name of the layer, for the message.
        of_inputs: Whether the gradient is a sum over input locations.
        has_bias: Whether there is a bias.

    Raises:
        ShapeError: If a shape is wrong, or there are weights of input locations and a
            bias.
        KfacError: As `kfac_core.rows.weights.weights_for`.
    """
    if weights is None:
        return None
    adjoint = window.adjoint
    shapes = [(x.shape[0], *adjoint.spatial_of(x)) for x in data[not of_inputs]]
    inputs, gradients = (
        weights_for(backend, w, shapes, like, label) for w in sides(weights)
    )
    both = (*(inputs or ()), *(gradients or ()))
    if of_inputs and has_bias and any(w.ndim > 1 for w in both):
        msg = (
            f"{label}: weights are of input locations, and the bias sees those of the"
            f" outputs, expected [batch]: a weight for each case; or use"
            ' locations="output", and give [batch, ..output locations..]'
        )
        raise ShapeError(msg)
    if not of_inputs and not window.mirrored and inputs is not None:
        # The patches of spread inputs come backwards; see `spread_inputs_image`.
        inputs = tuple(backend.xp.flip(w, axis=1) if w.ndim > 1 else w for w in inputs)
    return RowWeights(inputs, gradients)


def spread_data(
    backend: Backend,
    window: TransposedWindow,
    towers: tuple[Array, ...],
    sources: tuple[tuple[Array, ...], ...],
) -> tuple[tuple[Array, ...], tuple[tuple[Array, ...], ...]]:
    """Return images that have one patch for each output, and the gradients.

    Both have their channels last; see `spread_inputs_image` for the order of patches.
    """
    adjoint = window.adjoint
    # The outputs of a tower have one shape, whatever the source.
    sizes = [adjoint.spatial_of(g) for g in sources[0]]
    images = tuple(
        spread_inputs_image(backend, x, window, size)[0]
        for x, size in zip(towers, sizes, strict=True)
    )
    last = tuple(
        tuple(adjoint.to_channels_last(backend, g) for g in source)
        for source in sources
    )
    return images, last
