"""The results of a forward and a backward pass through a network."""

from typing import NamedTuple, TypeAlias

from kfac_core.reference.layer import Cache, Tensors
from kfac_core.typing import Array

NetworkParams: TypeAlias = tuple[Tensors, ...]
"""The parameters of each layer that has any, in order."""


class Forward(NamedTuple):
    """A forward pass.

    Attributes:
        outputs: ``[batch, outputs]``.
        inputs: Inputs of each layer with parameters.
        caches: Caches of every layer.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Dense, Sequential, Tanh
        >>> network = Sequential((Dense(1, 1, has_bias=False), Tanh(), Dense(1, 1)))
        >>> params = network.init(np.random.default_rng(0), like=np.ones(1))
        >>> forward = network.forward(params, np.ones((3, 1)))
        >>> forward.outputs.shape, len(forward.inputs), len(forward.caches)
        ((3, 1), 2, 3)
    """

    outputs: Array
    inputs: tuple[Array, ...]
    caches: tuple[Cache, ...]


class Backward(NamedTuple):
    """A backward pass; each field has one entry for each layer with parameters.

    Attributes:
        inputs: The layer's inputs.
        output_gradients: Each case's gradient of the summed loss for the outputs.
        param_gradients: The gradients for the parameters, summed over the batch.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Dense, Sequential
        >>> network = Sequential((Dense(1, 1), Dense(1, 1)))
        >>> params = network.init(np.random.default_rng(0), like=np.ones(1))
        >>> g = np.ones((3, 1))
        >>> back = network.backward(params, network.forward(params, np.ones((3, 1))), g)
        >>> len(back.inputs), [x.shape for x in back.output_gradients]
        (2, [(3, 1), (3, 1)])
        >>> back.param_gradients[1][1]  # of the last bias: the sum over three cases
        array([3.])
    """

    inputs: tuple[Array, ...]
    output_gradients: tuple[Array, ...]
    param_gradients: NetworkParams
