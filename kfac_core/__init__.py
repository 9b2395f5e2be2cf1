"""The mathematics of K-FAC, written once for every array library.

K-FAC approximates the Fisher information of a neural network, layer by layer, by
Kronecker products of small matrices, and preconditions gradients with its inverse.

Start with a block, such as `FullyConnectedKFACBasicFB`: a frozen spec whose verbs take
a state and return a new one. Arrays of NumPy, PyTorch, JAX and CuPy come in, and arrays
of the same library, device and dtype go out.

Example:
    >>> import numpy as np
    >>> import kfac_core as kc
    >>> rng = np.random.default_rng(0)
    >>> x, g = rng.normal(size=(32, 4)), rng.normal(size=(32, 3))
    >>> block = kc.FullyConnectedKFACBasicFB(input_size=4, output_size=3)
    >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.95)
    >>> state = block.update_inverses(state, damping=1e-2)
    >>> block.multiply_inverse(state, x.T @ g / 32).shape
    (4, 3)
"""

from kfac_core.errors import (
    ArgumentError,
    BackendError,
    DTypeError,
    KfacError,
    NotComputedError,
    NotFiniteError,
    NotPositiveDefiniteError,
    NotRegisteredError,
    ShapeError,
)
from kfac_core.fisher_blocks import (
    ConvDiagonalFB,
    ConvKFCBasicFB,
    EmbeddingKFACFB,
    FisherBlock,
    FullFB,
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
    KroneckerProductFB,
    KroneckerState,
    NaiveDiagonalFB,
    NaiveFullFB,
    SingleFactorFB,
    SingleFactorState,
)
from kfac_core.fisher_factors import (
    ConvDiagonalFactor,
    ConvInputKroneckerFactor,
    ConvOutputKroneckerFactor,
    DenseSquareMatrixFactor,
    DiagonalFactor,
    EmbeddingInputKroneckerFactor,
    FactorState,
    FisherFactor,
    FullFactor,
    FullyConnectedDiagonalFactor,
    FullyConnectedKroneckerFactor,
    InverseProvidingFactor,
    NaiveDiagonalFactor,
    NaiveFullFactor,
)
from kfac_core.linalg.operators import (
    DiagonalOperator,
    FullMatrixOperator,
    LinearOperator,
)
from kfac_core.registry import available_backends, backend_of, load_backend

__all__ = [
    "ArgumentError",
    "BackendError",
    "ConvDiagonalFB",
    "ConvDiagonalFactor",
    "ConvInputKroneckerFactor",
    "ConvKFCBasicFB",
    "ConvOutputKroneckerFactor",
    "DTypeError",
    "DenseSquareMatrixFactor",
    "DiagonalFactor",
    "DiagonalOperator",
    "EmbeddingInputKroneckerFactor",
    "EmbeddingKFACFB",
    "FactorState",
    "FisherBlock",
    "FisherFactor",
    "FullFB",
    "FullFactor",
    "FullMatrixOperator",
    "FullyConnectedDiagonalFB",
    "FullyConnectedDiagonalFactor",
    "FullyConnectedKFACBasicFB",
    "FullyConnectedKroneckerFactor",
    "InverseProvidingFactor",
    "KfacError",
    "KroneckerProductFB",
    "KroneckerState",
    "LinearOperator",
    "NaiveDiagonalFB",
    "NaiveDiagonalFactor",
    "NaiveFullFB",
    "NaiveFullFactor",
    "NotComputedError",
    "NotFiniteError",
    "NotPositiveDefiniteError",
    "NotRegisteredError",
    "ShapeError",
    "SingleFactorFB",
    "SingleFactorState",
    "available_backends",
    "backend_of",
    "load_backend",
]


def __getattr__(name: str) -> str:
    """Return ``__version__``: reading the metadata takes time that few need."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kfac_core")
    msg = f"module 'kfac_core' has no attribute {name!r}"
    raise AttributeError(msg)
