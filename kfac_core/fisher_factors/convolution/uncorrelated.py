"""The input factor of a convolution whose pixels are taken to be uncorrelated."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core import moving_average
from kfac_core.arguments.arrays import as_batch, as_towers
from kfac_core.arguments.options import check_options
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.convolution.spec import prepare
from kfac_core.fisher_factors.forms.uncorrelated_pixels import UncorrelatedPixels
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import roots_of, sides, weights_for
from kfac_core.statistics.centred_moments import (
    CentredMoments,
    about_zero,
)
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.statistics.patches.pixels import PixelWeights, pixel_moments
from kfac_core.typing import Array, Scalar, Towers, Weights


@takes_older_calls
@dataclass(frozen=True)
class ConvInputSUAKroneckerFactor(FisherFactor):
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

    Mean and covariance are those of all batches together; ``tf.contrib.kfac`` averages
    the covariance of each batch about its own mean, as
    `kfac_core.contrib.fisher_factors.ConvInputSUAKroneckerFactor` can.

    The rows are those of the parameters' matrix, offsets first. ``tf.contrib.kfac``
    puts channels first, which no product of its block expects. The bias has the second
    moment one; in ``tf.contrib.kfac`` it has none if the mean is assumed to be zero.
    There are no Cholesky factors, since they do not have this form.

    Attributes:
        geometry: The convolution's geometry. Its padding, strides and dilations matter
            with ``pixel_weights="usage"`` alone.
        has_bias: Whether each patch ends in a one.
        assume_zero_mean: Whether to leave out ``m m'``, except for the one of the bias.
        subtract_mean: With `assume_zero_mean`, whether ``S`` is the covariance, and not
            the second moment.
        pixel_weights: ``"all"``: all pixels count alike, as in ``tf.contrib.kfac``;
            ``"usage"``: by the number of kernel taps that fall on them, the padding
            included, so that ``kron(I_k, S) + m m'`` has the trace of the patches'
            second moment.

    Example:
        >>> import numpy as np
        >>> geometry = ConvolutionGeometry((2, 1, 1), padding="SAME")
        >>> factor = ConvInputSUAKroneckerFactor(geometry, matpowers=(-1,))
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

    geometry: ConvolutionGeometry
    has_bias: bool = False
    assume_zero_mean: bool = field(default=False, kw_only=True)
    subtract_mean: bool = field(default=True, kw_only=True)
    pixel_weights: PixelWeights = field(default="all", kw_only=True)
    form: UncorrelatedPixels = field(init=False, repr=False, compare=False)

    forms: ClassVar[tuple[type[Form], ...]] = (UncorrelatedPixels,)
    merges: ClassVar[bool] = True
    """Whether mean and covariance are those of all batches together."""

    def __post_init__(self) -> None:
        """Check the options, once.

        Raises:
            ArgumentError: If an option is unknown, or anything but powers is to be
                served.
        """
        check_options(self)
        prepare(self)
        centred = self.subtract_mean or not self.assume_zero_mean
        form = UncorrelatedPixels(
            offsets=self.num_offsets,
            channels=self.geometry.shape[-2],
            has_bias=self.has_bias,
            has_mean=not self.assume_zero_mean,
            is_centred=centred,
            # The covariance is that of all batches, about their common mean.
            merges=centred and self.merges,
        )
        object.__setattr__(self, "form", form)
        super().__post_init__()

    @property
    def num_offsets(self) -> int:
        """Number of kernel offsets."""
        return math.prod(self.geometry.window.kernel)

    @property
    def dimension(self) -> int:
        """Length of a patch, with the one for the bias."""
        return math.prod(self.geometry.shape[:-1]) + self.has_bias

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
            self.geometry.window.check_inputs(x, self.geometry.shape[-2], self.label)
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
            self.geometry.window,
            self.pixel_weights,
            about_mean=self.form.is_centred,
            roots=roots_of(backend, own),
            cases=count,
        )
        sample = CentredMoments(moments) if self.form.merges else moments
        data = {"inputs": (towers,)}
        return accumulated(self, backend, state, [sample], ema_decay, ema_weight, data)

    def get_cov_var(self, state: FactorState) -> Array:
        """Return the moments of a pixel, of shape `cov_shape`.

        The second moment is about zero, where the covariances of batches are merged.
        """
        backend = self._backend(state)
        stored = moving_average.value(backend, state.cov, self.label)
        return about_zero(backend, stored) if self.form.merges else stored
