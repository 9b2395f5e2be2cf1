"""`UncorrelatedPixels`: the form of patches whose pixels are uncorrelated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.forms.powers import PowersForm
from kfac_core.linalg import psd
from kfac_core.linalg.mean_inverse import (
    inverse_of_bordered_moment,
    inverse_of_second_moment,
)
from kfac_core.linalg.offset_operator import OffsetOperator, equal_copies
from kfac_core.moving_average import MovingAverage
from kfac_core.statistics.centred_moments import (
    mean_square,
    merged,
    parts,
    witness,
)
from kfac_core.typing import Array


@dataclass(frozen=True)
class UncorrelatedPixels(PowersForm):
    """Moments of a pixel, which stand for the second moment of a patch of pixels.

    Attributes:
        offsets: Number of kernel offsets.
        channels: Number of channels of a pixel.
        has_bias: Whether each patch ends in a one.
        has_mean: Whether the pixels have a mean; if not, only the one of the bias has.
        is_centred: Whether ``S`` is a covariance, and not a second moment.
        merges: Whether the moments are kept as
            `kfac_core.statistics.centred_moments.CentredMoments`.
    """

    offsets: int
    channels: int
    has_bias: bool
    has_mean: bool
    is_centred: bool
    merges: bool
    structure: ClassVar[str] = "the approximation of uncorrelated pixels"

    def shape(self, size: int) -> tuple[int, ...]:
        # The moments of a pixel, with a one.
        return (self.channels + 1, self.channels + 1)

    def union(
        self,
        backend: Backend,
        averages: Sequence[MovingAverage],
        factor: FisherFactor,
    ) -> MovingAverage:
        """Return the moments of all samples, about their common mean."""
        if not self.merges:
            return super().union(backend, averages, factor)
        total = averages[0].total
        for average in averages[1:]:
            total = merged(backend, total, average.total)
        weight = moving_average.added(backend, averages).weight
        return moving_average.constant(backend, total, weight)

    def _blocks(self, backend: Backend, moments: Array) -> tuple[Array, Array]:
        """Return the two matrices of an `OffsetOperator`: ``S``, and the mean's."""
        xp = backend.xp
        # With weights, or without debiasing, the corner is the weight of all samples.
        covariance, mean, one = parts(moments)
        squared = mean_square(backend, moments)
        if not self.has_mean:
            common, mean = covariance, xp.zeros_like(mean)
        else:
            common = covariance + self.offsets * squared
        if not self.has_bias:
            return covariance, common
        column = mean[:, None] * self.offsets**0.5
        row = xp.concat([column.mT, one[None, None]], axis=1)
        upper = xp.concat([common, column], axis=1)
        return covariance, xp.concat([upper, row], axis=0)

    def operator(
        self, backend: Backend, kept: Array, factor: FisherFactor
    ) -> OffsetOperator:
        xp, n = backend.xp, self.channels
        if kept.ndim == 2:  # the moments, and not a power
            within, common = self._blocks(backend, kept)
        else:
            order = n + self.has_bias
            within = xp.reshape(kept[: n * n], (n, n))
            common = xp.reshape(kept[n * n :], (order, order))
        return OffsetOperator(within, common, equal_copies(backend, self.offsets, kept))

    def power(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        exp: float,
        factor: FisherFactor,
    ) -> Array:
        """Return both matrices of a power, one after the other, as one vector."""
        if exp in {-1, -2} and self.has_mean:
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
        scale = xp.sqrt(self.offsets / xp.where(one > 0, one, xp.ones_like(one)))
        mean = first * scale
        if self.has_bias:
            common = inverse_of_bordered_moment(backend, factor, mean, one, damping)
        else:
            common = inverse_of_second_moment(backend, factor, mean)
        return [backend.cholesky_inverse(factor), common]

    def powers(
        self,
        backend: Backend,
        cov: Array,
        wanted: Sequence[tuple[float, Array]],
        factor: FisherFactor,
    ) -> tuple[Array, ...]:
        """Return damped powers; see `power`."""
        return tuple([self.power(backend, cov, d, exp, factor) for exp, d in wanted])

    def empty_power(self, backend: Backend, like: Array, factor: FisherFactor) -> Array:
        """Return zeros for both matrices of a power, as one vector."""
        order, device = self.channels + self.has_bias, backend.creation_device(like)
        size = self.channels**2 + order**2
        return backend.xp.zeros((size,), dtype=like.dtype, device=device)

    def entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        # The diagonal sums squares: NaN and infinity anywhere in a row show there.
        if self.is_centred:
            return witness(backend, statistic)
        return backend.diagonal(statistic)
