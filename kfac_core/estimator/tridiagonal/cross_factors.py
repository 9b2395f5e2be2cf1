"""Statistics of two layers: cross second moments of their inputs and gradients."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.estimator.layer_data import LayerGiven
from kfac_core.layer_collection import LayerRegistration
from kfac_core.moving_average import Ema, MovingAverage, Sample
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class CrossFactors(NamedTuple):
    """Second moments of a layer and the next.

    Attributes:
        inputs: Moving average of ``sum a_i a_{i+1}' / N``, the ones of biases included.
        outputs: Moving average of ``sum g_i g_{i+1}' / N``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.estimator import BlockTridiagonalEstimator
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Dense, Sequential, SequentialModel, Tanh
        >>> model = SequentialModel(Sequential((Dense(4, 3), Tanh(), Dense(3, 2))))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss())
        >>> params = model.init(np.random.default_rng(0), like=np.ones(1))
        >>> state = BlockTridiagonalEstimator(collection).init(params)
        >>> cross, = state.cross  # of the first layer and the second
        >>> cross.inputs.total.shape, cross.outputs.total.shape  # each bias adds a one
        ((5, 4), (3, 2))
    """

    inputs: MovingAverage
    outputs: MovingAverage


class Rows(NamedTuple):
    """The rows of a layer for a batch.

    Attributes:
        inputs: ``[batch, inputs]``, the ones of the bias last.
        outputs: ``[batch, outputs]`` for each source.
    """

    inputs: tuple[Array]
    outputs: tuple[Array, ...]


def with_batch(
    backend: Backend,
    averages: Sequence[CrossFactors],
    layers: Sequence[LayerRegistration],
    given: dict[str, LayerGiven],
    ema: Ema,
) -> tuple[CrossFactors, ...]:
    """Return the statistics of all pairs with one more batch.

    Args:
        backend: Backend of the statistics.
        averages: The statistics of each layer and the next; left as they are.
        layers: The layers of a chain.
        given: What each was given of the batch, in which every case counts one.
        ema: The weights of the sample.

    Returns:
        The new statistics.
    """
    rows = [_rows_of(backend, layer, given[layer.name], ema.decay) for layer in layers]
    return tuple(
        CrossFactors(
            _folded(backend, old.inputs, own.inputs, after.inputs, ema),
            _folded(backend, old.outputs, own.outputs, after.outputs, ema),
        )
        for old, (own, after) in zip(averages, pairwise(rows), strict=True)
    )


def merged(
    backend: Backend, states: Sequence[Sequence[CrossFactors]]
) -> tuple[CrossFactors, ...]:
    """Return the statistics of all pairs of all that several states saw."""
    return tuple(
        CrossFactors(
            moving_average.added(backend, [each.inputs for each in pair]),
            moving_average.added(backend, [each.outputs for each in pair]),
        )
        for pair in zip(*states, strict=True)
    )


def _rows_of(
    backend: Backend, layer: LayerRegistration, given: LayerGiven, like: Array
) -> Rows:
    """Return the rows of a layer, in the dtype of the statistics."""
    xp = backend.xp
    (inputs,), sources = given.data
    x = xp.astype(inputs, like.dtype, copy=False)
    if layer.block.has_bias:  # type: ignore[attr-defined]
        x = xp.concat([x, xp.ones_like(x[:, :1])], axis=1)
    gradients = [xp.astype(g, like.dtype, copy=False) for (g,) in sources]
    return Rows((x,), tuple(gradients))


def _folded(
    backend: Backend,
    average: MovingAverage,
    rows: tuple[Array, ...],
    following: tuple[Array, ...],
    ema: Ema,
) -> MovingAverage:
    """Return an average with ``sum x y' / N`` of a batch, over all sources."""
    samples: list[Array | Sample] = [
        backend.matmul(x.mT, y) / x.shape[0]
        for x, y in zip(rows, following, strict=True)
    ]
    return moving_average.fold(backend, average, samples, ema.decay, ema.weight)
