"""The mathematics of K-FAC, written once for every array library.

K-FAC approximates the Fisher information of a neural network, layer by layer, by
Kronecker products of small matrices, and preconditions gradients with its inverse.

To train a model, start with `KfacOptimizer`. To use the mathematics alone, start with a
block, such as `FullyConnectedKFACBasicFB`: a frozen spec whose methods take a state and
return a new one. Functions take arrays of NumPy, PyTorch, JAX or CuPy, and return
arrays of the same library, device and dtype.

Example:
    >>> import numpy as np
    >>> import kfac_core as kc
    >>> rng = np.random.default_rng(0)
    >>> x, g = rng.normal(size=(32, 4)), rng.normal(size=(32, 3))
    >>> block = kc.blocks.FullyConnectedKFACBasicFB(input_size=4, output_size=3)
    >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.95)
    >>> state = block.update_inverses(state, damping=1e-2)
    >>> block.multiply_inverse(state, x.T @ g / 32).shape
    (4, 3)
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kfac_core import errors, layer_collection, linalg
from kfac_core import fisher_blocks as blocks
from kfac_core import fisher_factors as factors
from kfac_core import loss_functions as losses
from kfac_core.errors import KfacError
from kfac_core.estimator import (
    EstimatorState,
    FisherEstimator,
    summary,
)
from kfac_core.layer_collection import LayerCollection
from kfac_core.linearization import (
    Linearization,
    Model,
    SecondOrderLinearization,
)
from kfac_core.optimizer import KfacState, StepStatistics
from kfac_core.registry import (
    available_backends,
    backend_of,
    load_backend,
)
from kfac_core.state_classes import state_classes as state_classes
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.typing import (
    Pair,
    RowWeights,
    Uses,
)

if TYPE_CHECKING:
    from kfac_core.optimizer import KfacOptimizer, KfacOptions
    from kfac_core.products import CurvatureMatrixVectorProductComputer
    from kfac_core.recording import prepared as prepared
    from kfac_core.saving import from_tree as from_tree
    from kfac_core.saving import load, save, state_from_dict, state_to_dict
    from kfac_core.saving import load_arrays as load_arrays
    from kfac_core.spectral import SpectralBlock, SpectralMatrix

__all__ = [
    "ConvolutionGeometry",
    "CurvatureMatrixVectorProductComputer",
    "EstimatorState",
    "FisherEstimator",
    "KfacError",
    "KfacOptimizer",
    "KfacOptions",
    "KfacState",
    "LayerCollection",
    "Linearization",
    "Model",
    "Pair",
    "RowWeights",
    "SecondOrderLinearization",
    "SpectralBlock",
    "SpectralMatrix",
    "StepStatistics",
    "Uses",
    "available_backends",
    "backend_of",
    "blocks",
    "errors",
    "factors",
    "load",
    "load_backend",
    "losses",
    "save",
    "state_from_dict",
    "state_to_dict",
    "summary",
]

_IMPORTED_LATER = {
    "CurvatureMatrixVectorProductComputer": "products",
    "KfacOptimizer": "optimizer",
    "KfacOptions": "optimizer",
    "SpectralBlock": "spectral",
    "SpectralMatrix": "spectral",
    "from_tree": "saving",
    "load": "saving",
    "load_arrays": "saving",
    "prepared": "recording",
    "save": "saving",
    "state_from_dict": "saving",
    "state_to_dict": "saving",
}
"""The modules of names that a program may do without."""

_MOVED_TO = {
    "blocks": blocks,
    "factors": factors,
    "losses": losses,
    "errors": errors,
    "linalg": linalg,
    "layer_collection": layer_collection,
}
"""The modules of the classes that were here themselves before release 0.1."""


def __dir__() -> list[str]:
    """Return the names that a user starts from."""
    return __all__


def __getattr__(name: str) -> Any:
    """Return ``__version__``, `presets`, what is imported later, or a flat name.

    The version is read, and the rest is imported, only when it is needed, since that
    takes time.

    Raises:
        AttributeError: If there is no such name.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("kfac_core")
    if name == "presets":
        return import_module("kfac_core.presets")
    if name in _IMPORTED_LATER:
        return getattr(import_module(f"kfac_core.{_IMPORTED_LATER[name]}"), name)
    for door, module in _MOVED_TO.items():
        if name in module.__all__:
            warnings.warn(
                f"kfac_core.{name} is now kfac_core.{door}.{name}",
                DeprecationWarning,
                stacklevel=2,
            )
            return getattr(module, name)
    msg = f"module 'kfac_core' has no attribute {name!r}"
    raise AttributeError(msg)
