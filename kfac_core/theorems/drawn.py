"""What theorems are tried on: small networks with random parameters, and dense truth.

Networks and their Fisher are NumPy's, in float64. What a library computes starts from
the data of a layer, in the trial's dtype.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    LossFunction,
    NormalMeanNegativeLogProbLoss,
)
from kfac_core.reference import (
    Dense,
    LayerData,
    Sequential,
    Tanh,
    block_for,
    empirical_fisher,
    exact_fisher,
    exact_sources,
)
from kfac_core.theorems import verbs
from kfac_core.theorems.trial import Matrix, Trial

SOFTMAX = CategoricalLogitsNegativeLogProbLoss()
NORMAL = NormalMeanNegativeLogProbLoss(var=1.0)
NARROW = NormalMeanNegativeLogProbLoss(var=0.25)

HIDDEN = 3
"""Width of the layers that no size of a trial gives."""


SOURCES = 4
"""Number of sources of a dense layer's data, at the least; some are zero."""


class Layer(NamedTuple):
    """A layer of a network, the data of its block, and its Fisher.

    Attributes:
        block: The Kronecker-factored block.
        data: What its `update_covs` takes.
        fisher: Its dense Fisher.
        terms: Number of rows and sources that each statistic is summed over.
    """

    block: KroneckerProductFB
    data: LayerData
    fisher: Matrix
    terms: int

    def kfac(self, trial: Trial) -> Matrix:
        """Return the matrix of the block, as the library computes it."""
        return self._computed(trial)[0]

    def moments(self, trial: Trial) -> tuple[Matrix, Matrix]:
        """Return its two factors, as the library computes them."""
        a, g = self._computed(trial)[1]
        return a, g

    def _computed(self, trial: Trial) -> Any:
        return trial.call(verbs.dense_and_moments, self.block, tuple(self.data))


def linear(*widths: int, has_bias: bool = True) -> Sequential:
    """Return dense layers of the given widths."""
    return Sequential(tuple(Dense(m, n, has_bias) for m, n in pairwise(widths)))


def curved(*widths: int, has_bias: bool = True) -> Sequential:
    """Return dense layers of the given widths, with hyperbolic tangents between."""
    layers = linear(*widths, has_bias=has_bias).layers
    between: list[Any] = [part for layer in layers[:-1] for part in (layer, Tanh())]
    return Sequential((*between, layers[-1]))


def random_params(network: Sequential, rng: np.random.Generator) -> Any:
    """Return random parameters of a network."""
    vector: Matrix = 0.7 * rng.standard_normal(network.num_params)
    return network.vector_to_params(vector)


def layer_of(
    network: Sequential,
    params: Any,
    x: Matrix,
    loss: LossFunction,
    index: int,
    **options: Any,
) -> Layer:
    """Return a layer with the data that make its block exact over all targets.

    Args:
        network: The network.
        params: Its parameters.
        x: Its inputs.
        loss: The loss.
        index: Which of the layers with parameters.
        **options: Fields of the block.
    """
    spec = network.param_layers[index]
    data = exact_sources(network, params, x, loss)[index]
    fisher = exact_fisher(network, params, x, loss, layer=index)
    return _layer(spec, data, fisher, options)


def empirical_layer_of(
    network: Sequential,
    params: Any,
    x: Matrix,
    loss: LossFunction,
    targets: Any,
    index: int,
    **options: Any,
) -> Layer:
    """Return a layer with the gradients at the targets of the data."""
    forward = network.forward(params, x)
    g = loss.gradient(forward.outputs, targets)
    gradients = network.output_gradients(params, forward, g)
    data = LayerData(forward.inputs[index], ((gradients[index],),))
    fisher = empirical_fisher(network, params, x, loss, targets, layer=index)
    return _layer(network.param_layers[index], data, fisher, options)


def _layer(spec: Any, data: LayerData, fisher: Any, options: dict[str, Any]) -> Layer:
    gradients = data.outputs_grads
    rows = int(np.prod(gradients[0][0].shape[:-1]))
    block: Any = block_for(spec, **options)
    if isinstance(spec, Dense) and len(gradients) < SOURCES:
        # One number of sources for all: a compiler then compiles once for all.
        zeros = ((0 * gradients[0][0],),) * (SOURCES - len(gradients))
        data = LayerData(data.inputs, (*gradients, *zeros))
    return Layer(block, data, np.asarray(fisher), rows * len(gradients))


def homogeneous(x: Matrix, has_bias: bool = True) -> Matrix:
    """Return inputs with a column of ones, where the layer has a bias."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1) if has_bias else x


def case_moments(data: LayerData, has_bias: bool = True) -> tuple[Matrix, Matrix]:
    """Return ``a a'`` and the sum over sources of ``g g'`` for each case."""
    a = homogeneous(np.asarray(data.inputs), has_bias)
    g = np.stack([np.asarray(source) for (source,) in data.outputs_grads])
    return np.einsum("ni,nj->nij", a, a), np.einsum("cni,cnj->nij", g, g)


def flat(params: Any) -> Matrix:
    """Return parameters as one vector."""
    tensors = params if isinstance(params, tuple) else (params,)
    return np.concatenate([np.asarray(tensor).reshape(-1) for tensor in tensors])


def well_conditioned(
    rng: np.random.Generator, rows: int, columns: int, spread: float = 1.5
) -> Matrix:
    """Return ``[rows, columns]`` with singular values from ``1 / spread`` to `spread`.

    They are those of the mean over rows, where there are more rows than columns; the
    columns then have mean zero.
    """
    x, scale = rng.standard_normal((rows, columns)), 1.0
    if rows > columns:
        x, scale = x - x.mean(axis=0), float(np.sqrt(rows))
    q, _ = np.linalg.qr(x)
    found: Matrix = scale * q * np.geomspace(1 / spread, spread, columns)
    return found
