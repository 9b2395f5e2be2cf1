"""Second moments of the mean gradients of batches, over rows or columns."""

from collections.abc import Sequence

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.moving_average import Ema, MovingAverage
from kfac_core.typing import Array


def folded_moments(
    backend: Backend, average: MovingAverage, means: Sequence[Array], ema: Ema
) -> MovingAverage:
    """Return the average of ``M' M`` with the mean gradients of one more batch.

    Args:
        backend: Backend of the arrays.
        average: The average so far, ``[n, n]``, or ``[n]`` for the diagonal.
        means: ``M`` of each source, ``[k, n]``; their moments are summed.
        ema: Decay and weight of the batch.

    Returns:
        The new average.
    """
    is_diagonal = average.total.ndim == 1
    samples = [
        backend.xp.sum(x * x, axis=0) if is_diagonal else backend.gram(x) for x in means
    ]
    return moving_average.fold(backend, average, samples, ema.decay, ema.weight)
