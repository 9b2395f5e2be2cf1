"""The weighted, debiased moving average of statistics.

After samples ``x_1 .. x_t`` with decays ``d_s`` and weights ``w_s`` the value is

    sum_s w_s (d_{s+1} ... d_t) x_s  /  sum_s w_s (d_{s+1} ... d_t),

a true weighted mean: exact from the first sample, and exact for varying decay. With
constant weight it equals the zero-debiased average of Adam (Kingma & Ba, 2015,
section 3) and the moving averages of the May 2018 original. Without debiasing, the
initial value counts as a sample of weight one: with sample weights ``1 - d`` the
total weight stays one, and this is the exponential average of the 2017 original.
"""

from typing import NamedTuple

from kfac_core.arguments import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import NotComputedError
from kfac_core.state import is_known_false
from kfac_core.typing import Array, Scalar


class MovingAverage(NamedTuple):
    """A weighted sum of samples and the sum of their weights.

    Attributes:
        total: Weighted sum, of the samples' shape.
        weight: 0-d; zero before the first sample of a debiased average.
    """

    total: Array
    weight: Array


def fold(
    average: MovingAverage, sample: Array, decay: Array, weight: Array
) -> MovingAverage:
    """Return the average with one more sample.

    Args:
        average: The average so far, left as it is.
        sample: The new sample.
        decay: 0-d, in [0, 1]: what the weights so far are multiplied by.
        weight: 0-d, not negative: the weight of the sample.

    Returns:
        The new average.
    """
    return MovingAverage(
        total=average.total * decay + sample * weight,
        weight=average.weight * decay + weight,
    )


def weights_of(
    backend: Backend,
    ema_decay: Scalar,
    ema_weight: Scalar | None,
    like: Array,
    layer: str,
    *,
    zero_debias: bool,
) -> tuple[Array, Array]:
    """Return the decay and the weight of a sample, 0-d, as the user gave them.

    Args:
        backend: Backend of `like`.
        ema_decay: In [0, 1].
        ema_weight: Not negative; None: 1, or ``1 - ema_decay`` without debiasing.
        like: Array that gives dtype and device.
        layer: Name of the layer or factor, for the message.
        zero_debias: Whether the average is debiased.

    Returns:
        Two 0-d arrays.

    Raises:
        ArgumentError: If a value is known and out of range.
    """
    decay = as_scalar(backend, ema_decay, like, "ema_decay", layer, upper=1.0)
    if ema_weight is not None:
        return decay, as_scalar(backend, ema_weight, like, "ema_weight", layer)
    return decay, backend.xp.ones_like(decay) if zero_debias else 1.0 - decay


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
    xp = backend.xp
    started = average.weight > 0
    if is_known_false(backend, started):
        msg = (
            f"{layer}: the statistics are read before the first update;"
            " call update_cov (a block: update_covs) first"
        )
        raise NotComputedError(msg)
    one = xp.ones_like(average.weight)
    return average.total / xp.where(started, average.weight, one)
