"""What the tests of the exactness theorems share: networks, blocks, dense truth."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st

from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
)
from kfac_core.reference import (
    Dense,
    LayerData,
    Sequential,
    Tanh,
    block_for,
    exact_fisher,
    exact_sources,
)

SEEDS = st.integers(0, 2**32 - 1)
# That something is not so in general needs examples, and no more.
EXAMPLES = pytest.mark.parametrize("seed", range(3))
BATCHES = st.sampled_from([1, 2, 5])
WIDTHS = st.sampled_from([1, 2, 4])
BIAS = st.booleans()
SOFTMAX = CategoricalLogitsNegativeLogProbLoss()
NORMAL = NormalMeanNegativeLogProbLoss(var=1.0)
NARROW = NormalMeanNegativeLogProbLoss(var=0.3)
LOSSES = st.sampled_from([SOFTMAX, NORMAL, NARROW])


def dense_network(*widths, activation=None, has_bias=True):
    """Dense layers of the given widths, each pair with an activation between."""
    layers = [Dense(m, n, has_bias) for m, n in pairwise(widths)]
    if activation is None:
        return Sequential(tuple(layers))
    between = [part for layer in layers[:-1] for part in (layer, activation)]
    return Sequential((*between, layers[-1]))


def curved_network(*widths, has_bias=True):
    return dense_network(*widths, activation=Tanh(), has_bias=has_bias)


def empirical_sources(network, params, x, loss, targets):
    """As `exact_sources`, with the one source of the gradient at the targets."""
    forward = network.forward(params, x)
    g = loss.gradient(forward.outputs, targets)
    gradients = network.output_gradients(params, forward, g)
    return tuple(
        LayerData(inputs, ((own,),))
        for inputs, own in zip(forward.inputs, gradients, strict=True)
    )


def fitted(block, data):
    """The block's state after one batch."""
    like = data.outputs_grads[0][0]
    return block.update_covs(block.init(like), *data, ema_decay=0.0)


def kfac_of(spec, data, **options):
    """The Kronecker-factored block of a layer, dense."""
    block = block_for(spec, **options)
    return block.full_fisher_block(fitted(block, data))


def kfac_and_fisher(network, params, x, loss, layer):
    """A layer's Kronecker-factored block and its Fisher, both dense."""
    data = exact_sources(network, params, x, loss)[layer]
    kfac = kfac_of(network.param_layers[layer], data)
    return kfac, exact_fisher(network, params, x, loss, layer=layer)


def tolerance(*inverted):
    """What rounding may cost: epsilon times the condition of what is inverted."""
    condition = np.prod([np.linalg.cond(matrix) for matrix in inverted])
    return 100 * np.finfo(np.float64).eps * max(condition, 100)


def as_matrix(function, template):
    """The matrix of a linear function of parameters: what it makes of unit vectors."""
    sizes = [p.size for p in template]
    columns = []
    for unit in np.eye(sum(sizes)):
        parts = np.split(unit, np.cumsum(sizes)[:-1])
        vector = tuple(
            part.reshape(p.shape) for part, p in zip(parts, template, strict=True)
        )
        columns.append(np.concatenate([p.reshape(-1) for p in function(vector)]))
    return np.stack(columns, axis=1)
