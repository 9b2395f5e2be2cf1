"""K-FAC of grouped convolutions."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core.arguments import as_sources, as_towers, backend_for, check_paired
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors.convolution.spec import prepare, weighted_shape
from kfac_core.fisher_factors.grouped import GroupedKroneckerFactor
from kfac_core.linalg.layouts import KernelLayout
from kfac_core.linalg.parameters import (
    check_entries,
    params_to_vector,
    vector_to_params,
)
from kfac_core.registry import backend_of
from kfac_core.row_counts import counted
from kfac_core.statistics.patches.geometry import ConvolutionGeometry, Padding
from kfac_core.statistics.patches.groups import grouped_gradients, grouped_patches
from kfac_core.typing import Array, Params, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class GroupedKroneckerFB(KroneckerProductFB):
    """Abstract base: ``F = blockdiag(P kron(A_i, G_i))`` over groups ``i``.

    Each group is a convolution of its own, with its own pi; groups share nothing but
    the locations. The state is a `KroneckerState` of stacks.

    Attributes:
        filter_shape: Shape of the weights. In the library's order, row-major, they are
            ``[kernel * channels of a group, groups, outputs of a group]``.
        geometry: Where the convolution looks.
    """

    filter_shape: tuple[int, ...]
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)
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
        geometry, groups = self.geometry, self.input_factor.num_groups
        channels = self.input_factor.size // math.prod(geometry.kernel) * groups
        outputs = self.output_factor.size * groups
        for source in sources:
            check_paired(towers, source, self.label)
            for x, g in zip(towers, source, strict=True):
                geometry.check_inputs(x, channels, self.label)
                geometry.check_outputs(x, g, outputs, self.label)
        patches = tuple(grouped_patches(backend, x, geometry, groups) for x in towers)
        by_group = tuple(
            tuple(grouped_gradients(backend, g, geometry, groups) for g in source)
            for source in sources
        )
        shapes = [weighted_shape(geometry, x) for x in towers]
        rows = self._row_weights(backend, towers, shapes, weights, state.scale)
        uses = geometry.mean_locations(towers)
        counts = counted(
            backend, rows, shapes, uses, num_cases, state.scale, self.label
        )
        data = (patches, by_group)
        return self._fold(backend, state, data, counts, ema_decay, ema_weight)

    def full_fisher_block(self, state: KroneckerState) -> Array:
        """Return the block of the current statistics, dense and undamped.

        It acts on the weights row-major, in their layout, then the bias, so that the
        groups interleave.
        """
        now = self._now(state)
        backend = backend_of(state.scale)
        a = self.input_factor.get_cov(now.input_factor)
        g = self.output_factor.get_cov(now.output_factor)
        groups, rows, columns = a.shape[0], a.shape[1], g.shape[1]
        device = backend.creation_device(a)
        eye = backend.xp.eye(groups, dtype=a.dtype, device=device)
        a = backend.xp.permute_dims(a, (1, 0, 2))
        # The axes: row, group, column, twice.
        product = (
            a[:, :, None, :, None, None]
            * g[None, :, :, None, None, :]
            * eye[None, :, None, None, :, None]
        )
        size = rows * groups * columns
        dense = backend.xp.reshape(product, (size, size))
        return self._laid_out(backend, dense * self._scale(backend, state)[0])

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
                math.prod(self.geometry.kernel) * channels,
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


@dataclass(frozen=True)
class GroupedConvKFCBasicFB(GroupedKroneckerFB):
    """KFC of a grouped convolution: a `ConvKFCBasicFB` for each group.

    ``F = blockdiag(P kron(E[p_i p_i'], E[g_i g_i']))`` over groups ``i``, for ``P``
    locations: a group's outputs depend on no other group's weights, and the gradients
    of two groups are taken to be uncorrelated. Each group is damped with its own pi.

    Attributes:
        filter_shape: ``(..kernel.., in_channels / num_groups, out_channels)``, the
            outputs of each group side by side; in the order that `layout` says.
        num_groups: Number of groups; divides both channels.
        padding: As in `ConvKFCBasicFB`.
        strides: For each spatial axis, or of full rank; None: 1.
        dilation_rate: For each spatial axis, or of full rank; None: 1.
        data_format: As in `ConvKFCBasicFB`.
        has_bias: Whether the layer has a bias, ``[out_channels]``.
        layout: As in `ConvKFCBasicFB`.

    Example:
        >>> import numpy as np
        >>> block = GroupedConvKFCBasicFB((1, 1, 1, 2), num_groups=2, padding="VALID")
        >>> x = np.asarray([[1.0, 2.0]]).reshape(1, 1, 1, 2)
        >>> g = np.asarray([[3.0, 1.0]]).reshape(1, 1, 1, 2)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[9., 0.],
               [0., 4.]])
    """

    num_groups: int
    padding: Padding
    strides: tuple[int, ...] | int | None = None
    dilation_rate: tuple[int, ...] | int | None = None
    data_format: str | None = None
    has_bias: bool = False
    layout: KernelLayout = field(default="HWIO", kw_only=True)

    def __post_init__(self) -> None:
        """Make the factors, once.

        Raises:
            ArgumentError: If the groups do not divide the output channels.
        """
        super().__post_init__()
        shape = self._set_kernel_layout(self.layout, self.filter_shape, self.label)
        prepare(self, "dilation_rate", shape)
        channels, outputs = shape[-2:]
        if outputs % self.num_groups:
            msg = (
                f"{self.label}: num_groups is {self.num_groups}, expected a divisor of"
                f" the {outputs} output channels of filter_shape {self.filter_shape}"
            )
            raise ArgumentError(msg)
        outputs //= self.num_groups
        self._make_factors(self.num_groups, channels, outputs, has_bias=self.has_bias)
