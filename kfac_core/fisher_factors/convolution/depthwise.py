"""The diagonal of a depthwise convolution's Fisher."""

import math
from dataclasses import dataclass

from kfac_core.arguments.arrays import as_batch, as_sources, as_towers, check_paired
from kfac_core.arguments.options import check_options
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.diagonal import DiagonalFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.convolution.spec import prepare, weighted_shape
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import sides, weights_for
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.groups import grouped_gradients, grouped_patches
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.statistics.position_sums import products_over, sum_over
from kfac_core.statistics.rows import mean_over
from kfac_core.statistics.weighted_rows import weighed_pair
from kfac_core.typing import Array, Scalar, Sources, Towers, Weights


@takes_older_calls
@dataclass(frozen=True)
class DepthwiseConvDiagonalFactor(DiagonalFactor):
    """Diagonal of a depthwise convolution's Fisher, exact.

    Estimates the mean over cases of the square of each entry of the case's gradient,
    summed over locations before it is squared. Only input channel ``i`` reaches the
    output channels ``i M`` to ``(i + 1) M``. ``tf.contrib.kfac`` expands the filter to
    the dense ``[..kernel.., J, J M]``, and gets the same numbers.

    Attributes:
        geometry: The convolution's geometry, without groups. Its `filter_shape` is
            ``(..kernel.., in_channels, multiplier)``: ``J`` and ``M``.
        has_bias: Whether the layer has a bias, ``[in_channels * multiplier]``.

    Example:
        >>> import numpy as np
        >>> geometry = ConvolutionGeometry((1, 2, 1), padding="VALID")
        >>> factor = DepthwiseConvDiagonalFactor(geometry)
        >>> x, g = np.asarray([[[1.0, 2.0]]]), np.asarray([[[3.0, 4.0]]])
        >>> state = factor.update_cov(factor.init(x), x, g, ema_decay=0.0)
        >>> factor.get_cov_var(state)
        array([[ 9.],
               [64.]])
    """

    geometry: ConvolutionGeometry
    has_bias: bool = False

    def __post_init__(self) -> None:
        """Check the options, once."""
        check_options(self)
        prepare(self)
        super().__post_init__()

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(kernel * in_channels, multiplier)``; the bias is one more kernel tap."""
        *kernel, channels, multiplier = self.geometry.shape
        return ((math.prod(kernel) + self.has_bias) * channels, multiplier)

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the squared per-case gradients of a batch into the average.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers).
            outputs_grads: Gradients of the summed loss, ``[batch, ..locations..,
                in_channels * multiplier]``, or channels first; or a tuple of these
                (towers); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or each of its locations,
                ``[batch, ..locations..]`` or ``[batch, locations]``; or a tuple of
                these (towers). Zero for one that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, there is
                no case, or the kernel does not fit into the padded image.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = tuple(g for source in sources for g in source)
        backend = self._backend(
            state, "state, inputs, outputs_grads", *towers, *gradients
        )
        window, label = self.geometry.window, self.label
        dtype = state.cov.total.dtype
        channels, multiplier = self.geometry.shape[-2:]
        for x in towers:
            window.check_inputs(x, channels, label)
        inputs_checked = as_batch(backend, towers, dtype, "inputs", label)
        patches = [
            grouped_patches(backend, x, window, channels) for x in inputs_checked
        ]
        shapes = [weighted_shape(window, x) for x in inputs_checked]
        own = weights_for(backend, sides(weights)[1], shapes, state.cov.total, label)
        count = count_of(backend, num_cases, 1, state.cov.total, label)
        moments = []
        for source in sources:
            check_paired(towers, source, label)
            for x, g in zip(towers, source, strict=True):
                window.check_outputs(x, g, channels * multiplier, label)
            checked = as_batch(backend, source, dtype, "outputs_grads", label)
            squares = []
            for i, g in enumerate(checked):
                seen = patches[i]
                rows = grouped_gradients(backend, g, window, channels)
                if own is not None:
                    seen, rows = weighed_pair(backend, seen, rows, own[i])
                per_case = self._case_gradients(backend, seen, rows)
                squares.append(per_case * per_case)
            mean = mean_over(backend, squares, count)
            moments.append(backend.xp.reshape(mean, self.cov_shape))
        data = {"inputs": (towers,), "outputs_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)

    def _case_gradients(self, backend: Backend, patches: Array, g: Array) -> Array:
        """Return each case's gradient, summed over locations.

        Args:
            backend: Backend of both.
            patches: ``[batch, locations, in_channels, kernel]``.
            g: ``[batch, locations, in_channels, multiplier]``.

        Returns:
            ``[batch, kernel, in_channels, multiplier]``, one more tap with bias.
        """
        xp = backend.xp
        # A product of matrices for each case and channel, over the locations.
        by_channel = (xp.permute_dims(x, (0, 2, 1, 3)) for x in (patches, g))
        product = products_over(backend, *by_channel)
        per_case = xp.permute_dims(product, (0, 2, 1, 3))
        if not self.has_bias:
            return per_case
        of_bias = sum_over(backend, g, (1,))
        return xp.concat([per_case, of_bias[:, None, :, :]], axis=1)
