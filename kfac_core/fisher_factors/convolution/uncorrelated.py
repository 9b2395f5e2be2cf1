"""The input factor of a convolution whose pixels are taken to be uncorrelated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from kfac_core import moving_average
from kfac_core.arguments import as_batch, as_towers
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.convolution.spec import prepare
from kfac_core.fisher_factors.forms.powers import PowersFactor
from kfac_core.linalg import psd
from kfac_core.linalg.mean_inverse import (
    inverse_of_bordered_moment,
    inverse_of_second_moment,
)
from kfac_core.linalg.offset_operator import OffsetOperator, equal_copies
from kfac_core.moving_average import MovingAverage
from kfac_core.row_counts import count_of
from kfac_core.row_weights import roots_of, sides, weights_for
from kfac_core.statistics.centred_moments import (
    CentredMoments,
    about_zero,
    mean_square,
    parts,
    witness,
)
from kfac_core.statistics.patches.geometry import ConvolutionGeometry, Padding
from kfac_core.statistics.patches.pixels import PixelWeights, pixel_moments
from kfac_core.typing import Array, Scalar, Towers, Weights

Averaged: TypeAlias = Literal["moments", "covariances"]
"""What is averaged over batches: second moments, or each batch's covariance."""


@dataclass(frozen=True)
class ConvInputSUAKroneckerFactor(PowersFactor):
    """Second moment of patches whose pixels are spatially uncorrelated.

    Let there be ``k`` kernel offsets, and let a pixel's channels have the mean ``mu``
    and the covariance ``S``. The patches' second moment is then ``kron(I_k, S) + m m'``
    with ``m = kron(1_k, mu)``; with a bias, ``m`` ends in a one. This is the
    approximation of spatially uncorrelated activations (Grosse & Martens, 2016, section
    3.1 and theorem 4). The cost depends on the channels alone: all offsets are alike,
    so that every power follows from the powers of two matrices of the size of the
    channels (see `kfac_core.linalg.offset_operator`).

    ``S`` is computed and kept about the mean. After ``T`` batches of ``N`` pixels, with
    the roundoff ``u``, its error is ``(N + 3 T + 8) u`` times the variances, where
    ``N`` counts no more than the roundings of a sum (`kfac_backends.runs`), plus the
    rounding of the means times their differences. It does not grow as ``u |mu|^2``. The
    same holds for the powers -1 and -2. For other powers, take
    ``inverse_dtype="float64"`` where the mean is many standard deviations.

    The rows are those of the parameters' matrix, offsets first. ``tf.contrib.kfac``
    puts channels first, which no product of its block expects. The bias has the second
    moment one; in ``tf.contrib.kfac`` it has none if the mean is assumed to be zero.
    There are no Cholesky factors, since they do not have this form.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, out_channels)``.
        has_bias: Whether each patch ends in a one.
        assume_zero_mean: Whether to leave out ``m m'``, except for the one of the bias.
        subtract_mean: With `assume_zero_mean`, whether ``S`` is the covariance, and not
            the second moment.
        averaged: What is averaged over batches: ``"moments"``, which give the mean and
            the covariance of all batches together; or ``"covariances"``, each about the
            mean of its own batch, as in ``tf.contrib.kfac``.
        pixel_weights: ``"all"``: all pixels count alike, as in ``tf.contrib.kfac``;
            ``"usage"``: by the number of kernel taps that fall on them, the padding
            included, so that ``kron(I_k, S) + m m'`` has the trace of the patches'
            second moment. Only ``"usage"`` depends on the geometry.
        padding: As in `ConvInputKroneckerFactor`.
        strides: As in `ConvInputKroneckerFactor`.
        dilation_rate: As in `ConvInputKroneckerFactor`.
        data_format: As in `ConvInputKroneckerFactor`.
        extract_patches_fn: As in `ConvInputKroneckerFactor`.

    Example:
        >>> import numpy as np
        >>> factor = ConvInputSUAKroneckerFactor((2, 1, 1), matpowers=(-1,))
        >>> images = np.asarray([1.0, 3.0]).reshape(2, 1, 1)  # mean 2, variance 1
        >>> state = factor.update_cov(factor.init(images), images, ema_decay=0.0)
        >>> factor.get_cov(state).round(6)
        array([[5., 4.],
               [4., 5.]])
        >>> state = factor.update_inverses(state, damping=1.0)
        >>> factor.get_inverse(state).to_dense().round(6)
        array([[ 0.3, -0.2],
               [-0.2,  0.3]])
    """

    filter_shape: tuple[int, ...]
    has_bias: bool = False
    assume_zero_mean: bool = field(default=False, kw_only=True)
    subtract_mean: bool = field(default=True, kw_only=True)
    averaged: Averaged = field(default="moments", kw_only=True)
    pixel_weights: PixelWeights = field(default="all", kw_only=True)
    padding: Padding = field(default="SAME", kw_only=True)
    strides: tuple[int, ...] | int | None = field(default=None, kw_only=True)
    dilation_rate: tuple[int, ...] | int | None = field(default=None, kw_only=True)
    data_format: str | None = field(default=None, kw_only=True)
    extract_patches_fn: str | None = field(default=None, kw_only=True)
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)
    structure: ClassVar[str] = "the approximation of uncorrelated pixels"

    def __post_init__(self) -> None:
        """Check the options, and work out the geometry, once.

        Raises:
            ArgumentError: If an option is unknown, or anything but powers is to be
                served.
        """
        super().__post_init__()
        prepare(self, "dilation_rate")

    @property
    def num_offsets(self) -> int:
        """Number of kernel offsets."""
        return math.prod(self.filter_shape[:-2])

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(in_channels + 1, in_channels + 1)``: moments of a pixel, with a one."""
        return (self.filter_shape[-2] + 1,) * 2

    @property
    def dimension(self) -> int:
        """Length of a patch, with the one for the bias."""
        return math.prod(self.filter_shape[:-1]) + self.has_bias

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the moments of a batch's pixels into the average.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers, weighted by their pixels).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``; or a tuple of these
                (towers). Zero for one that does not count; None: one each. Pixels have
                no weights of their own here.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another rank or number of channels, if there is
                no case, or if the kernel does not fit into the padded image.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        towers = as_towers(inputs)
        backend = self._backend(state, "state, inputs", *towers)
        for x in towers:
            self.geometry.check_inputs(x, self.filter_shape[-2], self.label)
        dtype = state.cov.total.dtype
        checked = as_batch(backend, towers, dtype, "inputs", self.label)
        shapes = [(x.shape[0],) for x in checked]
        own = weights_for(
            backend, sides(weights)[0], shapes, state.cov.total, self.label
        )
        count = count_of(backend, num_cases, 1, state.cov.total, self.label)
        moments = pixel_moments(
            backend,
            checked,
            self.geometry,
            self.pixel_weights,
            about_mean=self._centred,
            roots=roots_of(backend, own),
            cases=count,
        )
        sample = CentredMoments(moments) if self._merges else moments
        data = {"inputs": (towers,)}
        return self._accumulate(backend, state, [sample], ema_decay, ema_weight, data)

    def get_cov_var(self, state: FactorState) -> Array:
        """Return the moments of a pixel, of shape `cov_shape`.

        The second moment is about zero, except for ``averaged="covariances"``.
        """
        backend = self._backend(state)
        stored = moving_average.value(backend, state.cov, self.label)
        return about_zero(backend, stored) if self._merges else stored

    @property
    def _centred(self) -> bool:
        """Whether ``S`` is a covariance, and not a second moment."""
        return self.subtract_mean or not self.assume_zero_mean

    @property
    def _merges(self) -> bool:
        """Whether the covariance is that of all batches, about their common mean."""
        return self._centred and self.averaged == "moments"

    def _blocks(self, backend: Backend, moments: Array) -> tuple[Array, Array]:
        """Return the two matrices of an `OffsetOperator`: ``S``, and the mean's."""
        xp = backend.xp
        # With weights, or without debiasing, the corner is the weight of all samples.
        covariance, mean, one = parts(moments)
        squared = mean_square(backend, moments)
        if self.assume_zero_mean:
            common, mean = covariance, xp.zeros_like(mean)
        else:
            common = covariance + self.num_offsets * squared
        if not self.has_bias:
            return covariance, common
        column = mean[:, None] * self.num_offsets**0.5
        row = xp.concat([column.mT, one[None, None]], axis=1)
        upper = xp.concat([common, column], axis=1)
        return covariance, xp.concat([upper, row], axis=0)

    def _identity(self, backend: Backend, like: Array) -> Array:
        device = backend.creation_device(like)
        return backend.xp.eye(like.shape[0], dtype=like.dtype, device=device)

    def _operator(self, backend: Backend, stored: Array) -> OffsetOperator:
        xp, n = backend.xp, self.filter_shape[-2]
        if stored.ndim == 2:  # the moments, and not a power
            within, common = self._blocks(backend, stored)
        else:
            order = n + self.has_bias
            within = xp.reshape(stored[: n * n], (n, n))
            common = xp.reshape(stored[n * n :], (order, order))
        return OffsetOperator(
            within, common, equal_copies(backend, self.num_offsets, stored)
        )

    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        """Return both matrices of a power, one after the other, as one vector."""
        if exp in {-1, -2} and not self.assume_zero_mean:
            powers = self._inverses(backend, cov, damping)
            if exp == -2:
                powers = [backend.gram(inverse) for inverse in powers]
        else:
            powers = [
                psd.power(backend, block, damping, exp)
                for block in self._blocks(backend, cov)
            ]
        return backend.xp.concat([backend.xp.reshape(p, (-1,)) for p in powers])

    def _inverses(self, backend: Backend, cov: Array, damping: Array) -> list[Array]:
        """Return both inverses, each as accurate as the covariance's inverse."""
        xp = backend.xp
        covariance, first, one = parts(cov)
        factor = psd.cholesky(backend, covariance, damping)
        scale = xp.sqrt(self.num_offsets / xp.where(one > 0, one, xp.ones_like(one)))
        mean = first * scale
        if self.has_bias:
            common = inverse_of_bordered_moment(backend, factor, mean, one, damping)
        else:
            common = inverse_of_second_moment(backend, factor, mean)
        return [backend.cholesky_inverse(factor), common]

    def _powers(
        self, backend: Backend, cov: Array, wanted: Sequence[tuple[float, Array]]
    ) -> tuple[Array, ...]:
        return tuple(self._power(backend, cov, d, exp) for exp, d in wanted)

    def _empty(self, backend: Backend, cov: MovingAverage) -> FactorState:
        state = super()._empty(backend, cov)
        n, order = self.filter_shape[-2], self.filter_shape[-2] + self.has_bias
        device = backend.creation_device(cov.total)
        powers = tuple(
            backend.xp.zeros((n * n + order * order,), dtype=power.dtype, device=device)
            for power in state.derived.matpowers
        )
        return state._replace(derived=state.derived._replace(matpowers=powers))

    def _entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        # The diagonal sums squares: NaN and infinity anywhere in a row show there.
        if self._centred:
            return witness(backend, statistic)
        return psd.diagonal(backend, statistic)
