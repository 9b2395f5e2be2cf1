"""The diagonal of a convolution's Fisher."""

import math
from dataclasses import dataclass

from kfac_core.arguments.arrays import as_batch, as_sources, as_towers, check_paired
from kfac_core.arguments.options import check_options
from kfac_core.fisher_factors.base.diagonal import DiagonalFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.convolution.spec import prepare, weighted_shape
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import sides, weights_for
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.mask import PatchMask, masked_squares
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.statistics.patches.second_moment import filter_gradients
from kfac_core.statistics.rows import mean_over
from kfac_core.typing import Scalar, Sources, Towers, Weights


@takes_older_calls
@dataclass(frozen=True)
class ConvDiagonalFactor(DiagonalFactor):
    """Diagonal of a convolution's Fisher, exact.

    Estimates the mean over cases of the square of each entry of the case's gradient,
    summed over locations before it is squared.

    Attributes:
        geometry: The convolution's geometry.
        has_bias: Whether the layer has a bias.
        patch_mask: As in `ConvInputKroneckerFactor`; ``tf.contrib.kfac`` fails with
            one.

    Example:
        >>> import numpy as np
        >>> factor = ConvDiagonalFactor(ConvolutionGeometry((1, 1, 2), padding=0))
        >>> x, g = np.asarray([[[1.0], [2.0]]]), np.ones((1, 2, 2))
        >>> state = factor.update_cov(factor.init(x), x, g, ema_decay=0.0)
        >>> factor.get_cov_var(state)
        array([[9., 9.]])
    """

    geometry: ConvolutionGeometry
    has_bias: bool = False
    patch_mask: PatchMask | None = None

    def __post_init__(self) -> None:
        """Check the options, and make the mask hashable, once."""
        check_options(self)
        prepare(self)
        super().__post_init__()

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """Shape of the layer's parameters as one matrix, the bias its last row."""
        *patch, outputs = self.geometry.shape
        return (math.prod(patch) + self.has_bias, outputs)

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
                out_channels]``, or channels first; or a tuple of these (towers); or a
                tuple of such tuples (sources, summed).
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
        channels, outputs = self.geometry.shape[-2:]
        dtype = state.cov.total.dtype
        for x in towers:
            window.check_inputs(x, channels, label)
        inputs_checked = as_batch(backend, towers, dtype, "inputs", label)
        shapes = [weighted_shape(window, x) for x in inputs_checked]
        own = weights_for(backend, sides(weights)[1], shapes, state.cov.total, label)
        count = count_of(backend, num_cases, 1, state.cov.total, label)
        moments = []
        for source in sources:
            check_paired(towers, source, label)
            for x, g in zip(towers, source, strict=True):
                window.check_outputs(x, g, outputs, label)
            checked = as_batch(backend, source, dtype, "outputs_grads", label)
            squares = []
            for i, (x, g) in enumerate(zip(inputs_checked, checked, strict=True)):
                per_case = filter_gradients(
                    backend,
                    x,
                    g,
                    window,
                    has_bias=self.has_bias,
                    weights=None if own is None else own[i],
                )
                squares.append(per_case * per_case)
            mean = mean_over(backend, squares, count)
            moments.append(
                masked_squares(backend, mean, self.patch_mask, has_bias=self.has_bias)
            )
        data = {"inputs": (towers,), "outputs_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)
