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

from kfac_core.backend import Backend
from kfac_core.errors import NotComputedError
from kfac_core.typing import Array


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
    if not backend.is_traced(average.weight) and not bool(average.weight > 0):
        msg = (
            f"{layer}: the statistics are read before the first update;"
            " call update_cov (a block: update_covs) first"
        )
        raise NotComputedError(msg)
    one = xp.ones_like(average.weight)
    return average.total / xp.where(average.weight > 0, average.weight, one)
