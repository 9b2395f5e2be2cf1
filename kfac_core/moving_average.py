"""The weighted, debiased moving average of statistics.

After samples ``x_1 .. x_t`` with decays ``d_s`` and weights ``w_s`` the value is

    sum_s w_s (d_{s+1} ... d_t) x_s  /  sum_s w_s (d_{s+1} ... d_t),

a true weighted mean: exact from the first sample, and exact for varying decay. With
constant weight it equals the zero-debiased average of Adam (Kingma & Ba, 2015,
section 3) and the moving averages of the May 2018 original. Without debiasing, the
initial value counts as a sample of weight one: with sample weights ``1 - d`` the
total weight stays one, and this is the exponential average of the 2017 original.

Functions take averages and samples that are checked, of one backend; the numbers that a
user gives are checked here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import NotComputedError
from kfac_core.state import is_known_false, kept
from kfac_core.state_classes import state_class
from kfac_core.typing import Array, Scalar


@state_class
class MovingAverage(NamedTuple):
    """A weighted sum of samples and the sum of their weights.

    Attributes:
        total: Weighted sum, of the samples' shape.
        weight: 0-d; zero before the first sample of a debiased average.
    """

    total: Array
    weight: Array


class Ema(NamedTuple):
    """The checked weights of a sample, which a block gives to its factors as a decay.

    Attributes:
        decay: 0-d, in [0, 1]: what the weights so far are multiplied by.
        weight: 0-d, not negative: the weight of the sample.
    """

    decay: Array
    weight: Array


class Sample:
    """A sample that is cheaper to add to a sum than to compute by itself."""

    def added(
        self, backend: Backend, weight: Array, decay: Array, total: Array
    ) -> Array:
        """Return ``weight * sample + decay * total``.

        Raises:
            NotImplementedError: If the subclass does not say how.
        """
        raise NotImplementedError


def fold(
    backend: Backend,
    average: MovingAverage,
    samples: Sequence[Array | Sample],
    decay: Array,
    weight: Array,
) -> MovingAverage:
    """Return the average with one more sample.

    Args:
        backend: Backend of the arrays.
        average: The average so far, left as it is.
        samples: Terms of the new sample, at least one.
        decay: 0-d, in [0, 1]: what the weights so far are multiplied by.
        weight: 0-d, not negative: the weight of the sample.

    Returns:
        The new average.
    """
    total = average.total
    for k, sample in enumerate(samples):
        factor = backend.xp.ones_like(decay) if k else decay
        if isinstance(sample, Sample):
            total = sample.added(backend, weight, factor, total)
        else:
            total = backend.axpby(factor, total, weight, sample)
    return constant(backend, total, average.weight * decay + weight)


def added(backend: Backend, averages: Sequence[MovingAverage]) -> MovingAverage:
    """Return the average of all samples of several averages, from left to right.

    Args:
        backend: Backend of the averages.
        averages: At least one, of one shape.

    Returns:
        The new average.
    """
    total, weight = averages[0]
    for average in averages[1:]:
        total, weight = total + average.total, weight + average.weight
    return constant(backend, total, weight)


def constant(backend: Backend, total: Any, weight: Any) -> MovingAverage:
    """Return an average of arrays; whatever its data are, statistics have no graph."""
    # This is `kfac_core.state.kept`, without a call: every update comes here.
    if isinstance(total, np.generic):
        total = np.asarray(total)
    elif backend.has_graph(total):
        total = backend.stop_gradient(total)
    if isinstance(weight, np.generic):
        weight = np.asarray(weight)
    elif backend.has_graph(weight):
        weight = backend.stop_gradient(weight)
    return MovingAverage(total, weight)


def of_number(number: Array) -> MovingAverage:
    """Return an average whose total and weight are a 0-d number, each in an array."""
    return MovingAverage(kept(number + 0), kept(number + 0))


def weights_of(
    backend: Backend,
    ema_decay: Scalar,
    ema_weight: Scalar | None,
    like: Array,
    layer: str,
    *,
    zero_debias: bool,
) -> Ema:
    """Return the decay and the weight of a sample, 0-d, as the user gave them.

    Args:
        backend: Backend of `like`.
        ema_decay: A decay in [0, 1]; or an `Ema`, which holds both numbers.
        ema_weight: Not negative, and at most the root of the largest number of the
            dtype; None: 1, or ``1 - ema_decay`` without debiasing.
        like: Array that gives dtype and device.
        layer: Name of the layer or factor, for the message.
        zero_debias: Whether the average is debiased.

    Returns:
        Two 0-d arrays; under a trace, NaN for what is out of range.

    Raises:
        ArgumentError: If a value is known and out of range.
    """
    given: object = ema_decay
    if isinstance(given, Ema):
        return given
    decay = as_scalar(backend, ema_decay, like, "ema_decay", layer, upper=1.0)
    if backend.has_graph(decay):
        decay = backend.stop_gradient(decay)
    if ema_weight is None:
        one = backend.scalar(1.0, like)
        return Ema(decay, one if zero_debias else one - decay)
    # With this limit, sums of many samples, of many uses each, stay in the range.
    largest = float(backend.xp.finfo(like.dtype).max) ** 0.5
    weight = as_scalar(backend, ema_weight, like, "ema_weight", layer, upper=largest)
    return Ema(
        decay, backend.stop_gradient(weight) if backend.has_graph(weight) else weight
    )


def fold_numbers(
    backend: Backend,
    averages: Sequence[MovingAverage],
    samples: Sequence[Scalar],
    ema: Ema,
) -> list[MovingAverage]:
    """Return averages of numbers that describe a batch, each with one more sample.

    Args:
        backend: Backend of the averages.
        averages: Averages with 0-d totals, at least one.
        samples: A number or 0-d array for each average.
        ema: Decay and weight of the batch.

    Returns:
        The new averages.
    """
    folded, (decay, weight) = [], ema
    for average, sample in zip(averages, samples, strict=True):
        # A sample of one, which most have, needs no product.
        is_one = type(sample) is float and sample == 1
        total = average.total * decay + (weight if is_one else weight * sample)
        folded.append(constant(backend, total, average.weight * decay + weight))
    return folded


def value(backend: Backend, average: MovingAverage, layer: str) -> Array:
    """Return the weighted mean, of the samples' shape.

    Args:
        backend: Backend of the arrays.
        average: The average.
        layer: Name of the layer or factor, for the message.

    Returns:
        The mean; zeros under a trace if there is no sample yet.

    Raises:
        NotComputedError: If there is no sample yet, outside of a trace.
    """
    known = backend.known_number(average.weight)
    if known is not None and known > 0:
        return average.total / average.weight
    xp = backend.xp
    started = average.weight > 0
    if is_known_false(backend, started):
        msg = (
            f"{layer}: the statistics are read before the first update;"
            " call update_cov (a block: update_covs) first"
        )
        raise NotComputedError(msg)
    if not backend.is_traced(started):
        return average.total / average.weight
    one = xp.ones_like(average.weight)
    return average.total / xp.where(started, average.weight, one)


def mean_or_zero(backend: Backend, average: MovingAverage) -> Array:
    """Return the weighted mean; zero before the first sample."""
    weight = average.weight
    one = backend.xp.ones_like(weight)
    mean: Array = average.total / backend.xp.where(weight > 0, weight, one)
    return mean
