"""K-FAC for any function of JAX: capture, curvature, and a transformation for optax.

`capture` reads the jaxpr of a function of parameters, finds its layers, and returns
what estimates and inverts their curvature. Models of Flax, Equinox or Haiku are such
functions.

Example:
    >>> import jax, jax.numpy as jnp
    >>> import kfac_core as kc
    >>> from kfac_adapters.jax import capture, kfac
    >>> def network(params, x):
    ...     return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"]
    >>> params = {"w1": jnp.ones((4, 3)), "b1": jnp.zeros(3), "w2": jnp.ones((3, 2))}
    >>> loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    >>> captured = capture(network, params, jnp.ones((8, 4)), loss=loss)
    >>> [layer.name for layer in captured.collection.layers]
    ["['w1']+['b1']", "['w2']"]
    >>> transformation = kfac(captured, damping=1e-2)
    >>> state = transformation.init(params)
"""

from kfac_adapters.coverage import Coverage
from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.capturing import capture
from kfac_adapters.jax.curvature import Curvature, CurvatureState
from kfac_adapters.jax.model import Batch, CapturedModel
from kfac_adapters.jax.named_axis import NamedAxis
from kfac_adapters.jax.optimizer import Kfac
from kfac_adapters.jax.transformation import Transformation, kfac

__all__ = [
    "Batch",
    "Captured",
    "CapturedModel",
    "Coverage",
    "Curvature",
    "CurvatureState",
    "Kfac",
    "NamedAxis",
    "Transformation",
    "capture",
    "kfac",
]
