"""Dense Fisher information of a small network's mean loss.

With case ``n``'s Jacobian ``J_n`` of the outputs by the parameters, and gradients
``g`` of its loss for the parameters,

    F = (1 / N) sum_n E[g g'] = (1 / N) sum_n J_n' F_n J_n,

where targets are drawn from the model, and ``F_n`` is the Fisher of the loss for the
outputs (Martens, 2020, sections 5 and 9; for a loss in natural parameters, ``F`` is
also the Gauss-Newton matrix). The *empirical* Fisher has the targets of the data
instead. Parameters have the order of `Sequential`; a layer's block has the order of
`kfac_core.fisher_blocks.FisherBlock.full_fisher_block`.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple, TypeAlias

from kfac_core.arguments.arrays import backend_for, check_not_empty
from kfac_core.arguments.sizes import as_size
from kfac_core.backend import Backend
from kfac_core.linearization import NamedParams
from kfac_core.loss_functions import LossFunction
from kfac_core.reference.checked import check_class
from kfac_core.reference.linearization import SequentialModel
from kfac_core.reference.network import Sequential
from kfac_core.reference.passes import Forward, NetworkParams
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Key

AnyParams: TypeAlias = NetworkParams | NamedParams
"""Parameters of each layer, or by name."""


def exact_fisher(
    network: Sequential,
    params: AnyParams,
    x: Array,
    loss: LossFunction,
    *,
    layer: int | None = None,
) -> Array:
    """Return the exact Fisher, without drawing targets.

    Args:
        network: The network.
        params: Its parameters, or by name as `SequentialModel` has them.
        x: Inputs, ``[batch, ..]``.
        loss: The loss.
        layer: Index of one layer with parameters, for its block; None: the whole.

    Returns:
        ``[num_params, num_params]``, of the layer or of the network.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Dense
        >>> network = Sequential((Dense(1, 1),))
        >>> params = network.init(np.random.default_rng(0), like=np.ones(1))
        >>> loss = NormalMeanNegativeLogProbLoss(var=1.0)
        >>> exact_fisher(network, params, np.asarray([[1.0], [3.0]]), loss)
        array([[5., 2.],
               [2., 1.]])
    """
    params = _checked(network, params, x, loss)
    forward = network.forward(params, x)
    jacobian = network.jacobian(params, x, layer)
    backend = backend_of(jacobian)
    xp = backend.xp
    rows = xp.permute_dims(jacobian, (2, 0, 1))
    weighted = loss.multiply_fisher(forward.outputs, rows)
    size = rows.shape[0]
    left, right = (xp.reshape(x, (size, -1)) for x in (rows, weighted))
    return backend.matmul(left, right.mT) / jacobian.shape[0]


def empirical_fisher(
    network: Sequential,
    params: AnyParams,
    x: Array,
    loss: LossFunction,
    targets: Array,
    *,
    layer: int | None = None,
) -> Array:
    """Return the second moment of the gradients of the cases' losses.

    Args:
        network: The network.
        params: Its parameters, or by name as `SequentialModel` has them.
        x: Inputs, ``[batch, ..]``.
        loss: The loss.
        targets: Targets of the data give the empirical Fisher; targets drawn from the
            model give an unbiased estimate of the Fisher.
        layer: Index of one layer with parameters, for its block; None: the whole.

    Returns:
        ``[num_params, num_params]``, of the layer or of the network.
    """
    params = _checked(network, params, x, loss)
    forward = network.forward(params, x)
    g = loss.gradient(forward.outputs, targets)
    return _second_moment(network, params, forward, g, layer)


def sampled_fisher(
    network: Sequential,
    params: AnyParams,
    x: Array,
    loss: LossFunction,
    key: Key,
    *,
    num_samples: int = 1,
    layer: int | None = None,
) -> Array:
    """Return an unbiased estimate of the Fisher, from targets drawn from the model.

    Args:
        network: The network.
        params: Its parameters, or by name as `SequentialModel` has them.
        x: Inputs, ``[batch, ..]``.
        loss: The loss.
        key: What the array library draws from.
        num_samples: Number of targets drawn for each case.
        layer: Index of one layer with parameters, for its block; None: the whole.

    Returns:
        ``[num_params, num_params]``, of the layer or of the network.
    """
    params = _checked(network, params, x, loss)
    forward = network.forward(params, x)
    num_samples = as_size(num_samples, "num_samples", "sampled_fisher")
    samples = loss.sample(key, forward.outputs, num_samples)
    moments = [
        _second_moment(
            network,
            params,
            forward,
            loss.gradient(forward.outputs, samples[s, ...]),
            layer,
        )
        for s in range(num_samples)
    ]
    backend = backend_of(*moments)
    return backend.xp.mean(backend.xp.stack(moments), axis=0)


class LayerData(NamedTuple):
    """What a layer's block takes: ``block.update_covs(state, *data, ema_decay=0.0)``.

    Attributes:
        inputs: Inputs of the layer.
        outputs_grads: For each source a tuple of one tower: gradients for the outputs.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> x, g = np.asarray([[1.0], [3.0]]), np.asarray([[1.0], [1.0]])
        >>> data = LayerData(x, outputs_grads=((g,),))
        >>> block = FullyConnectedKFACBasicFB(1, 1)
        >>> state = block.update_covs(block.init(like=x), *data, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[5.]])
    """

    inputs: Array
    outputs_grads: tuple[tuple[Array], ...]


def exact_sources(
    network: Sequential, params: AnyParams, x: Array, loss: LossFunction
) -> tuple[LayerData, ...]:
    """Return for each layer with parameters the data that make its block exact.

    The data give the exact expectation over targets. A Kronecker product is still an
    approximation of its layer's Fisher.

    Args:
        network: The network.
        params: Its parameters, or by name as `SequentialModel` has them.
        x: Inputs, ``[batch, ..]``.
        loss: The loss.

    Returns:
        For each layer its inputs, and a source for each column of the loss's factor.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> from kfac_core.reference import Dense, block_for
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(7, 2))
        >>> network = Sequential((Dense(2, 3),))
        >>> params = network.init(rng, like=x)
        >>> loss = CategoricalLogitsNegativeLogProbLoss()
        >>> data, = exact_sources(network, params, x, loss)
        >>> block = block_for(network.layers[0])
        >>> state = block.update_covs(block.init(like=x), *data, ema_decay=0.0)
        >>> block.full_fisher_block(state).shape
        (9, 9)
    """
    params = _checked(network, params, x, loss)
    forward = network.forward(params, x)
    outputs = forward.outputs
    sizes = loss.fisher_factor_inner_shape(outputs)[1:]
    by_source = [
        network.output_gradients(
            params,
            forward,
            loss.multiply_fisher_factor_replicated_one_hot(outputs, index),
        )
        for index in product(*map(range, sizes))
    ]
    return tuple(
        LayerData(inputs, tuple((gradients[index],) for gradients in by_source))
        for index, inputs in enumerate(forward.inputs)
    )


def _checked(
    network: Sequential, params: AnyParams, x: Array, loss: object
) -> NetworkParams:
    """Return the parameters in the network's structure, with all else checked."""
    check_class(network, Sequential, "network", "the Fisher")
    check_class(loss, LossFunction, "loss", "the Fisher")
    backend_for("the Fisher", "x", x)
    check_not_empty((x,), "x", "the Fisher")
    if isinstance(params, Mapping):
        return SequentialModel(network).unnamed(params)
    return params


def _second_moment(
    network: Sequential,
    params: NetworkParams,
    forward: Forward,
    g_outputs: Array,
    layer: int | None,
) -> Array:
    """Return the mean over cases of the square of their gradients."""
    gradients = network.case_gradients(params, forward, g_outputs, layer)
    backend: Backend = backend_of(gradients)
    return backend.gram(gradients) / gradients.shape[0]
