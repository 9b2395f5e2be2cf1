"""The Kronecker factors of convolutions in 1, 2 and 3 spatial dimensions."""

import math
from dataclasses import dataclass, field
from typing import Any

from kfac_core.arguments.arrays import as_batch, as_sources, as_towers, check_shape
from kfac_core.arguments.options import check_options, check_word
from kfac_core.arguments.powers import shown
from kfac_core.arguments.random_keys import check_key
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.convolution.located_rows import (
    counted_rows,
    patches_as_rows,
)
from kfac_core.fisher_factors.convolution.spec import (
    check_sampling,
    prepare,
    sample_sizes,
    weighted_shape,
)
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import roots_of, sides, weights_for
from kfac_core.statistics.patches.geometry import (
    DATA_FORMATS,
    ConvolutionGeometry,
    is_channels_last,
)
from kfac_core.statistics.patches.mask import PatchMask, masked_moment
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.statistics.patches.sampling import sampled_second_moment
from kfac_core.statistics.patches.second_moment import patch_second_moment
from kfac_core.statistics.patches.weights import weighted_patch_moment
from kfac_core.statistics.patches.window import channels_to_last
from kfac_core.statistics.weighted_rows import weighed
from kfac_core.typing import Array, Key, Scalar, Sources, Towers, Weights


@takes_older_calls
@dataclass(frozen=True)
class ConvInputKroneckerFactor(FisherFactor):
    """Second moment of the patches that a convolution's kernel sees.

    Estimates ``E[p p']`` over cases and locations (``Omega`` of Grosse & Martens, 2016,
    section 3.1, divided by the number of locations). Each location has one patch ``p``,
    which includes the zeros of the padding. Patches are laid out as the leading axes of
    the filter: kernel axes, then channels, then the one for the bias.

    Attributes:
        geometry: The convolution's geometry.
        has_bias: Whether each patch ends in a one.
        sub_sample_inputs: Whether each update draws some of the cases, without
            replacement: `update_cov` then takes a ``key``.
        sub_sample_patches: Whether each update draws some of the patches of the cases
            drawn, without replacement: `update_cov` then takes a ``key``.
        patch_mask: What each patch is multiplied by, ``[..kernel.., in_channels]``: an
            array or nested lists, kept as nested tuples; None: ones.
        inputs_fraction: Fraction of a tower's cases to draw; their number is rounded
            up.
        max_patches: Largest number of patches of a tower to draw.
        max_patches_per_dimension: Largest number of patches of a tower to draw for each
            entry of a patch.

    Example:
        >>> import numpy as np
        >>> geometry = ConvolutionGeometry((1, 1, 1, 1), padding="SAME")
        >>> factor = ConvInputKroneckerFactor(geometry, has_bias=True)
        >>> images = np.asarray([1.0, 2.0]).reshape(2, 1, 1, 1)
        >>> state = factor.update_cov(factor.init(images), images, ema_decay=0.0)
        >>> factor.get_cov(state)
        array([[2.5, 1.5],
               [1.5, 1. ]])
    """

    geometry: ConvolutionGeometry
    has_bias: bool = False
    sub_sample_inputs: bool = field(default=False, kw_only=True)
    sub_sample_patches: bool = field(default=False, kw_only=True)
    patch_mask: PatchMask | None = field(default=None, kw_only=True)
    inputs_fraction: float = field(default=0.2, kw_only=True)
    max_patches: int = field(default=10**7, kw_only=True)
    max_patches_per_dimension: float = field(default=3.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the options, and make the mask hashable, once."""
        check_options(self)
        prepare(self)
        check_sampling(self)
        if self.needs_key and not isinstance(self.form, Dense):
            msg = (
                f"{self.label}: form is {shown(self.form)}, but patches are sampled for"
                " Dense alone; sample none, or leave form as it is"
            )
            raise ArgumentError(msg)
        super().__post_init__()

    @property
    def dimension(self) -> int:
        """Length of a patch, with the one for the bias."""
        return math.prod(self.geometry.shape[:-1]) + self.has_bias

    @property
    def needs_key(self) -> bool:
        """Whether `update_cov` draws random numbers."""
        return self.sub_sample_inputs or self.sub_sample_patches

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        key: Key = None,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch's patches into the average.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers, weighted by their patches).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            key: What the backend draws from, where `needs_key` is true; the same key
                draws the same sample.
            weights: How much each case counts, ``[batch]``, or each location, ``[batch,
                ..locations..]`` or ``[batch, locations]``; or a tuple of these
                (towers). Zero for one that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another rank or number of channels, if there is
                no case, or if the kernel does not fit into the padded image.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity; with sampling, if the
                drawn part does. Under a trace the state is kept, with ``ok`` False.
            ArgumentError: If the decay, a weight or `num_cases` is out of range, or
                there is no key and one is needed.
        """
        towers, window = as_towers(inputs), self.geometry.window
        backend = self._backend(state, "state, inputs", *towers)
        for x in towers:
            window.check_inputs(x, self.geometry.shape[-2], self.label)
        dtype = state.cov.total.dtype
        checked = as_batch(backend, towers, dtype, "inputs", self.label)
        shapes = [weighted_shape(window, x) for x in checked]
        own = weights_for(
            backend, sides(weights)[0], shapes, state.cov.total, self.label
        )
        roots = roots_of(backend, own)
        locations = window.mean_locations(checked)
        count = count_of(backend, num_cases, locations, state.cov.total, self.label)
        options: dict[str, Any] = {"has_bias": self.has_bias, "count": count}
        data = {"inputs": (towers,)}
        if not isinstance(self.form, Dense):
            check_key(backend, key, state.cov.total, self.label)
            patches = patches_as_rows(
                backend, checked, window, self.patch_mask, own, count
            )
            sample = self.form.of_rows(backend, patches, self.has_bias)
            return accumulated(
                self, backend, state, [sample], ema_decay, ema_weight, data
            )
        if not self.needs_key:
            check_key(backend, key, state.cov.total, self.label)
            moment = (
                patch_second_moment(backend, checked, window, **options)
                if roots is None
                else weighted_patch_moment(backend, checked, window, roots, **options)
            )
        elif key is None:
            msg = (
                f"{self.label}: sub-sampling draws random numbers, and there is no key;"
                f" give key= of {backend.name}: a generator, or a key of JAX"
            )
            raise ArgumentError(msg)
        else:
            sizes = [sample_sizes(self, x) for x in checked]
            moment = sampled_second_moment(
                backend,
                checked,
                window,
                sizes,
                key,
                self.label,
                roots=roots,
                **options,
            )
        moment = masked_moment(backend, moment, self.patch_mask, has_bias=self.has_bias)
        return accumulated(self, backend, state, [moment], ema_decay, ema_weight, data)


@dataclass(frozen=True)
class ConvOutputKroneckerFactor(FisherFactor):
    """Second moment of a convolution's output gradients.

    Estimates ``E[g g']`` over cases and locations (``Gamma`` of Grosse & Martens, 2016,
    section 3.1).

    Attributes:
        output_size: Number of output channels.
        data_format: None or such as ``"NHWC"``: channels last; such as ``"NCHW"``:
            channels first.

    Example:
        >>> import numpy as np
        >>> factor = ConvOutputKroneckerFactor(1)
        >>> gradients = np.asarray([1.0, 3.0]).reshape(1, 1, 2, 1)
        >>> state = factor.init(gradients)
        >>> factor.get_cov(factor.update_cov(state, gradients, ema_decay=0.0))
        array([[5.]])
    """

    output_size: int
    data_format: str | None = None

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ArgumentError: If the data format does not have 1 to 3 spatial axes.
        """
        super().__post_init__()
        check_word(self.data_format, DATA_FORMATS, "data_format", self.label)

    @property
    def dimension(self) -> int:
        """Number of output channels."""
        return self.output_size

    def update_cov(
        self,
        state: FactorState,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch's gradients into the average.

        Args:
            state: The state; left as it is.
            outputs_grads: Gradients of the summed loss, ``[batch, ..spatial..,
                output_size]``, or channels first; or a tuple of these (towers); or a
                tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or each location, ``[batch,
                ..locations..]`` or ``[batch, locations]``; or a tuple of these
                (towers). Zero for one that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another rank or number of channels, or there
                is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        sources = as_sources(outputs_grads)
        backend = self._backend(
            state, "state, outputs_grads", *(g for source in sources for g in source)
        )
        dtype, label = state.cov.total.dtype, self.label
        checked = []
        shapes: list[tuple[int, ...]] = []
        for source in sources:
            rows = []
            shapes.clear()
            for g in source:
                spatial = ("size",) * (g.ndim - 2)
                if not 1 <= g.ndim - 2 <= 3:
                    wanted = ("batch", "1 to 3 spatial axes", self.output_size)
                    check_shape(g, wanted, "outputs_grads", label)
                try:
                    last = is_channels_last(self.data_format, len(spatial), label)
                except ArgumentError as error:
                    msg = f"{error}, as outputs_grads has shape {tuple(g.shape)}"
                    raise ShapeError(msg) from None
                shape = ("batch", *spatial, self.output_size)
                if not last:
                    shape = ("batch", self.output_size, *spatial)
                check_shape(g, shape, "outputs_grads", label)
                g_last = g if last else channels_to_last(backend, g)
                shapes.append(tuple(g_last.shape[:-1]))
                rows.append(backend.xp.reshape(g_last, (-1, self.output_size)))
            checked.append(
                as_batch(backend, tuple(rows), dtype, "outputs_grads", label)
            )
        roots, count = counted_rows(
            backend, sides(weights)[1], shapes, num_cases, state.cov.total, label
        )
        moments = []
        for arrays_of_source in checked:
            weighed_rows = weighed(backend, arrays_of_source, roots, count)
            moments.append(self.form.of_rows(backend, weighed_rows, has_bias=False))
        data = {"outputs_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)

    def _weighted_shape(self, g: Array) -> tuple[int, ...]:
        """Return the shape of what can have weights: ``(batch, ..locations..)``."""
        last = is_channels_last(self.data_format, g.ndim - 2, self.label)
        return tuple(g.shape[:-1] if last else (g.shape[0], *g.shape[2:]))
