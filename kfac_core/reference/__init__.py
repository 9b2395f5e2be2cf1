"""Dense truth: small networks with hand-written gradients, and their Fisher.

It is for tests and teaching. Nothing here is approximate: the matrix that K-FAC
approximates is computed whole, ``[num_params, num_params]``, and the blocks of
`kfac_core` are compared with it. Everything runs on NumPy, PyTorch, JAX (also under
`jax.jit`) and any other library of the array API standard.

Example:
    >>> import numpy as np
    >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
    >>> from kfac_core.reference import (
    ...     Dense, Sequential, block_for, exact_fisher, exact_sources
    ... )
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(6, 3))
    >>> network = Sequential((Dense(3, 2),))
    >>> params = network.init(rng, like=x)
    >>> loss = NormalMeanNegativeLogProbLoss()
    >>> block, (data,) = (
    ...     block_for(network.layers[0]),
    ...     exact_sources(network, params, x, loss),
    ... )
    >>> state = block.update_covs(block.init(like=x), *data, ema_decay=0.0)
    >>> truth = exact_fisher(network, params, x, loss)
    >>> bool(np.allclose(block.full_fisher_block(state), truth))  # a last layer: exact
    True
"""

from kfac_core.reference.affine import AffineCache, AffineLayer
from kfac_core.reference.bias import Bias
from kfac_core.reference.bilinear import Bilinear
from kfac_core.reference.blocks import block_for, diagonal_block_for
from kfac_core.reference.comparison import Comparison, Errors, compare
from kfac_core.reference.convolution import Conv2D
from kfac_core.reference.dense import Dense, Embedding
from kfac_core.reference.dense_fisher import (
    DenseFisher,
    case_gradients,
    dense_blocks,
    dense_fisher,
)
from kfac_core.reference.fisher import (
    LayerData,
    empirical_fisher,
    exact_fisher,
    exact_sources,
    sampled_fisher,
)
from kfac_core.reference.iris import iris
from kfac_core.reference.layer import Cache, Layer, Tensors
from kfac_core.reference.linearization import (
    Batch,
    SequentialLinearization,
    SequentialModel,
)
from kfac_core.reference.network import Sequential
from kfac_core.reference.parameterless import (
    ElementwiseLayer,
    Flatten,
    MeanPool2D,
    ReLU,
    Tanh,
)
from kfac_core.reference.passes import Backward, Forward, NetworkParams
from kfac_core.reference.pictures import PICTURE_STYLE, heat_maps
from kfac_core.reference.right_digits import Digits, digits
from kfac_core.reference.tied import TiedLanguageModel
from kfac_core.reference.transposed_convolution import ConvTranspose

__all__ = [
    "PICTURE_STYLE",
    "AffineCache",
    "AffineLayer",
    "Backward",
    "Batch",
    "Bias",
    "Bilinear",
    "Cache",
    "Comparison",
    "Conv2D",
    "ConvTranspose",
    "Dense",
    "DenseFisher",
    "Digits",
    "ElementwiseLayer",
    "Embedding",
    "Errors",
    "Flatten",
    "Forward",
    "Layer",
    "LayerData",
    "MeanPool2D",
    "NetworkParams",
    "ReLU",
    "Sequential",
    "SequentialLinearization",
    "SequentialModel",
    "Tanh",
    "Tensors",
    "TiedLanguageModel",
    "block_for",
    "case_gradients",
    "compare",
    "dense_blocks",
    "dense_fisher",
    "diagonal_block_for",
    "digits",
    "empirical_fisher",
    "exact_fisher",
    "exact_sources",
    "heat_maps",
    "iris",
    "sampled_fisher",
]
