"""KFC: the Kronecker block of convolutions in 1, 2 and 3 spatial dimensions."""

from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core.arguments.random_keys import check_key
from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors import (
    ConvInputKroneckerFactor,
    ConvInputSUAKroneckerFactor,
    ConvOutputKroneckerFactor,
)
from kfac_core.fisher_factors.convolution.spec import (
    check_sampling,
    prepare,
    weighted_shape,
)
from kfac_core.registry import backend_of
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.mask import PatchMask
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.statistics.patches.pixels import PixelWeights
from kfac_core.typing import Array, Key, Scalar, Sources, Towers, Weights


@takes_older_calls
@dataclass(frozen=True)
class ConvKFCBasicFB(KroneckerProductFB):
    """KFC of a convolution: ``F = P kron(E[p p'], E[g g'])`` for ``P`` locations.

    Patches and output gradients are taken to be independent, and locations
    uncorrelated (Grosse & Martens, 2016, section 3). ``P`` is the true number of
    output locations; ``tf.contrib.kfac`` ignores dilation and refuses spatial strides.

    Attributes:
        geometry: The convolution's geometry. Vectors and products are in its layout.
        has_bias: Whether the layer has a bias.
        sub_sample_inputs: Whether each update of ``A`` draws some of the cases:
            `update_covs` then takes a ``key``. ``G`` is of all cases.
        sub_sample_patches: Whether each update of ``A`` draws some of the patches:
            `update_covs` then takes a ``key``.
        use_sua_approx_for_input_factor: Whether pixels are taken to be spatially
            uncorrelated: ``A`` is then a `ConvInputSUAKroneckerFactor`, which serves
            powers alone, and takes neither a mask nor a sample.
        patch_mask: As in `ConvInputKroneckerFactor`. A mask belongs to patches, and has
            no layout.
        inputs_fraction: As in `ConvInputKroneckerFactor`.
        max_patches: As in `ConvInputKroneckerFactor`.
        max_patches_per_dimension: As in `ConvInputKroneckerFactor`.
        pixel_weights: As in `ConvInputSUAKroneckerFactor`, for the approximation of
            uncorrelated pixels alone.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((2, 2, 1, 1), padding="VALID", strides=2)
        >>> block = ConvKFCBasicFB(geometry, has_bias=True)
        >>> image = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)
        >>> g = np.arange(-1.0, 3.0).reshape(1, 2, 2, 1)
        >>> state = block.update_covs(block.init(like=g), image, g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=0.5)
        >>> vector = (np.ones((2, 2, 1, 1)), np.asarray([2.0]))
        >>> block.multiply_inverse(state, vector)[1].round(6)
        array([0.122306])
    """

    geometry: ConvolutionGeometry
    has_bias: bool = False
    sub_sample_inputs: bool = field(default=False, kw_only=True)
    sub_sample_patches: bool = field(default=False, kw_only=True)
    use_sua_approx_for_input_factor: bool = field(default=False, kw_only=True)
    patch_mask: PatchMask | None = field(default=None, kw_only=True)
    inputs_fraction: float = field(default=0.2, kw_only=True)
    max_patches: int = field(default=10**7, kw_only=True)
    max_patches_per_dimension: float = field(default=3.0, kw_only=True)
    pixel_weights: PixelWeights = field(default="all", kw_only=True)
    input_factor: ConvInputKroneckerFactor | ConvInputSUAKroneckerFactor = field(
        init=False, repr=False, compare=False
    )

    is_repeated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make the factors, once.

        Raises:
            ArgumentError: If an option is unknown, or two do not go together.
        """
        prepare(self)
        super().__post_init__()
        check_sampling(self)
        inputs = (
            self._sua_factor()
            if self.use_sua_approx_for_input_factor
            else ConvInputKroneckerFactor(
                self.geometry,
                self.has_bias,
                sub_sample_inputs=self.sub_sample_inputs,
                sub_sample_patches=self.sub_sample_patches,
                patch_mask=self.patch_mask,
                inputs_fraction=self.inputs_fraction,
                max_patches=self.max_patches,
                max_patches_per_dimension=self.max_patches_per_dimension,
                **self._factor_options("input"),
            )
        )
        outputs = ConvOutputKroneckerFactor(
            self.geometry.shape[-1],
            self.geometry.data_format,
            **self._factor_options("output"),
        )
        self._set_factors(inputs, outputs)
        self._set_layout(self.geometry.weights)

    @property
    def needs_key(self) -> bool:
        """Whether `update_covs` draws random numbers, and takes a ``key`` for that."""
        return self.sub_sample_inputs or self.sub_sample_patches

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
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers, weighted by their rows).
            outputs_grads: Gradients of the summed loss for the layer's outputs,
                ``[batch, ..locations.., out_channels]``, or channels first; or a tuple
                of these (towers); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            key: What the backend draws from, where `needs_key` is true; the same key
                draws the same sample.
            weights: How much each case counts, ``[batch]``, or each location, ``[batch,
                ..locations..]`` or ``[batch, locations]``; or a tuple of these
                (towers). Zero for one that does not count; None: one each. Inputs and
                gradients may have different weights: see `kfac_core.typing.RowWeights`.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, there is
                no case, or the kernel does not fit into the padded image.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay, a weight or `num_cases` is out of range, or
                there is no key and one is needed.
        """
        options = {"key": key} if self.needs_key else {}
        if key is not None and not options:
            like = self._own(state).scale
            check_key(backend_of(like), key, like, self.label)
        return self._update_factors(
            state,
            inputs,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights,
            num_cases,
            **options,
        )

    def _weighted_shape(self, inputs: Array) -> tuple[int, ...]:
        return weighted_shape(self.geometry.window, inputs)

    def _check_inputs(self, inputs: Array) -> None:
        channels = self.geometry.shape[-2]
        self.geometry.window.check_inputs(inputs, channels, self.label)

    def _check_pair(self, inputs: Array, gradients: Array) -> None:
        self._check_inputs(inputs)
        outputs = self.geometry.shape[-1]
        self.geometry.window.check_outputs(inputs, gradients, outputs, self.label)

    def _mean_uses(self, inputs: tuple[Array, ...]) -> float:
        return self.geometry.window.mean_locations(inputs)

    def _sua_factor(self) -> ConvInputSUAKroneckerFactor:
        if self.needs_key or self.patch_mask is not None:
            msg = (
                f"{self.label}: use_sua_approx_for_input_factor treats all kernel"
                " offsets alike and costs by the channels alone; leave out patch_mask,"
                " sub_sample_inputs and sub_sample_patches"
            )
            raise ArgumentError(msg)
        return ConvInputSUAKroneckerFactor(
            self.geometry,
            self.has_bias,
            pixel_weights=self.pixel_weights,
            **self._factor_options("input"),
        )
