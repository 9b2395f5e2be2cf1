"""K-FAC of grouped convolutions."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors.convolution.spec import prepare, weighted_shape
from kfac_core.fisher_factors.grouped import GroupedKroneckerFactor
from kfac_core.linalg.parameters import (
    check_entries,
    params_to_vector,
    vector_to_params,
)
from kfac_core.linalg.spectrum import Spectrum, dense_matrix
from kfac_core.linalg.stacks import interleaved
from kfac_core.registry import backend_of
from kfac_core.rows.counts import counted
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.groups import grouped_gradients, grouped_patches
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.typing import Array, Params, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class GroupedKroneckerFB(KroneckerProductFB):
    """Abstract base: ``F = blockdiag(P kron(A_i, G_i))`` over groups ``i``.

    Each group is a convolution of its own, with its own pi; groups share nothing but
    the locations. In the library's order, row-major, the weights are ``[kernel *
    channels of a group, groups, outputs of a group]``. The state is a `KroneckerState`
    of stacks.

    Attributes:
        geometry: The convolution's geometry.
    """

    geometry: ConvolutionGeometry
    input_factor: GroupedKroneckerFactor = field(init=False, repr=False, compare=False)
    output_factor: GroupedKroneckerFactor = field(init=False, repr=False, compare=False)

    is_repeated: ClassVar[bool] = True

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

        Arguments and errors are those of `ConvKFCBasicFB.update_covs`; the data hold
        the channels of all groups.

        Returns:
            The new state.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = (g for source in sources for g in source)
        given = (self._own(state).scale, *towers, *gradients)
        backend = backend_for(self.label, "state, inputs, outputs_grads", *given)
        self._check_pairs(towers, sources)
        shapes = [self._weighted_shape(x) for x in towers]
        rows = self._row_weights(backend, shapes, weights, state.scale)
        uses = self._mean_uses(towers)
        counts = counted(
            backend, rows, shapes, uses, num_cases, state.scale, self.label
        )
        data = self._in_groups(backend, towers, sources)
        return self._fold(backend, state, data, counts, ema_decay, ema_weight)

    def _in_groups(
        self,
        backend: Backend,
        towers: tuple[Array, ...],
        sources: tuple[tuple[Array, ...], ...],
    ) -> tuple[Any, Any]:
        """Return the patches and the output gradients of every group."""
        window, groups = self.geometry.window, self.input_factor.num_groups
        patches = tuple(grouped_patches(backend, x, window, groups) for x in towers)
        gradients = tuple(
            tuple(grouped_gradients(backend, g, window, groups) for g in source)
            for source in sources
        )
        return patches, gradients

    def _weighted_shape(self, inputs: Array) -> tuple[int, ...]:
        return weighted_shape(self.geometry.window, inputs)

    def _mean_uses(self, inputs: tuple[Array, ...]) -> float:
        return self.geometry.window.mean_locations(inputs)

    def _check_inputs(self, inputs: Array) -> None:
        window, groups = self.geometry.window, self.input_factor.num_groups
        channels = self.input_factor.size // math.prod(window.kernel) * groups
        window.check_inputs(inputs, channels, self.label)

    def _check_pair(self, inputs: Array, gradients: Array) -> None:
        self._check_inputs(inputs)
        outputs = self.output_factor.size * self.input_factor.num_groups
        self.geometry.window.check_outputs(inputs, gradients, outputs, self.label)

    def full_fisher_block(self, state: KroneckerState) -> Array:
        """Return the block of the current statistics, dense and undamped.

        It acts on the weights row-major, in their layout, then the bias, so that the
        groups interleave.
        """
        now = self._now(state)
        backend = backend_of(state.scale)
        a = self.input_factor.get_cov(now.input_factor)
        g = self.output_factor.get_cov(now.output_factor)
        # The axes: group, then row and column, twice.
        blocks = a[:, :, None, :, None] * g[:, None, :, None, :]
        dense = interleaved(backend, blocks)
        return self._laid_out(backend, dense * self._scale(backend, state)[0])

    def _dense(self, backend: Backend, spectrum: Spectrum) -> Array:
        blocks = backend.vmap(lambda own: dense_matrix(backend, own), spectrum)
        axes = tuple(spectrum.eigenvalues.shape)
        return interleaved(backend, backend.xp.reshape(blocks, (*axes, *axes[1:])))

    def _matrix(self, backend: Backend, vector: Params) -> Array:
        """Return the parameters of each group, ``[groups, rows, columns]``."""
        groups, *_ = self.input_factor.cov_shape
        rows, columns = self.input_factor.dimension, self.output_factor.dimension
        size, layout = groups * rows * columns, self.weight_layout
        check_entries(vector, size, self.label, layout)
        flat = params_to_vector(backend, vector, layout)
        cells = backend.xp.reshape(flat, (rows, groups, columns))
        return backend.xp.permute_dims(cells, (1, 0, 2))

    def _params(self, backend: Backend, product: Array, vector: Params) -> Params:
        cells = backend.xp.permute_dims(product, (1, 0, 2))
        flat = backend.xp.reshape(cells, (-1,))
        params = vector_to_params(backend, flat, vector, self.weight_layout)
        return self._in_dtypes_of(backend, params, vector)

    def _make_factors(
        self, num_groups: int, channels: int, outputs: int, *, has_bias: bool
    ) -> None:
        """Make the factors, for these numbers of channels in each group."""
        self._set_factors(
            GroupedKroneckerFactor(
                num_groups,
                math.prod(self.geometry.window.kernel) * channels,
                has_bias,
                data_name="inputs",
                **self._factor_options("input"),
            ),
            GroupedKroneckerFactor(
                num_groups,
                outputs,
                data_name="outputs_grads",
                **self._factor_options("output"),
            ),
        )


@takes_older_calls
@dataclass(frozen=True)
class GroupedConvKFCBasicFB(GroupedKroneckerFB):
    """KFC of a grouped convolution: a `ConvKFCBasicFB` for each group.

    ``F = blockdiag(P kron(E[p_i p_i'], E[g_i g_i']))`` over groups ``i``, for ``P``
    locations: a group's outputs depend on no other group's weights, and the gradients
    of two groups are taken to be uncorrelated. Each group is damped with its own pi.

    Attributes:
        geometry: The convolution's geometry; `num_groups` divides both channels, and
            the outputs of each group are side by side. Vectors and products are in its
            layout.
        has_bias: Whether the layer has a bias, ``[out_channels]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> block = GroupedConvKFCBasicFB(
        ...     ConvolutionGeometry((1, 1, 1, 2), num_groups=2, padding="VALID")
        ... )
        >>> x = np.asarray([[1.0, 2.0]]).reshape(1, 1, 1, 2)
        >>> g = np.asarray([[3.0, 1.0]]).reshape(1, 1, 1, 2)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[9., 0.],
               [0., 4.]])
    """

    has_bias: bool = False

    def __post_init__(self) -> None:
        """Make the factors, once.

        Raises:
            ArgumentError: If the groups do not divide the output channels.
        """
        prepare(self, grouped=True)
        super().__post_init__()
        groups, (*_, channels, outputs) = self.geometry.num_groups, self.geometry.shape
        if outputs % groups:
            msg = (
                f"{self.label}: num_groups is {groups}, expected a divisor of the"
                f" {outputs} output channels of {self.geometry.weights}"
            )
            raise ArgumentError(msg)
        self._set_layout(self.geometry.weights)
        self._make_factors(groups, channels, outputs // groups, has_bias=self.has_bias)
