"""`CapturedModel`: a captured function as what `kfac_core.KfacOptimizer` trains."""

from typing import Any, NamedTuple

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.linearized import Linearized
from kfac_core.errors import ArgumentError


class Batch(NamedTuple):
    """What a step is taken on.

    Attributes:
        inputs: The arguments of the function after its parameters.
        targets: Targets of the loss, in the axes of what the function returns; a
            dictionary, if the losses have names.
        weights: How much each position of the loss counts, in the axes of the targets.
    """

    inputs: tuple[Any, ...]
    targets: Any = None
    weights: Any = None


class CapturedModel:
    """A `kfac_core.Model` of a captured function.

    Args:
        captured: What `kfac_adapters.jax.capture` returned.
        params: The parameters; those that are in no layer stay as they are here.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import kfac_core as kc
        >>> from kfac_adapters.jax import Batch, CapturedModel, capture
        >>> def network(params, x):
        ...     return x @ params["w"]
        >>> params, x = {"w": jnp.zeros((4, 3))}, jnp.ones((8, 4))
        >>> loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
        >>> captured = capture(network, params, x, loss=loss)
        >>> optimizer = kc.KfacOptimizer(
        ...     CapturedModel(captured, params),
        ...     captured.collection,
        ...     momentum_type="qmodel",
        ...     damping=1.0,
        ... )
        >>> named = captured.named(params)
        >>> state = optimizer.init(named)
        >>> batch = Batch((x,), jnp.zeros(8, jnp.int32))
        >>> step = jax.jit(lambda s, p, key: optimizer.step(s, p, batch, key=key))
        >>> state, named, stats = step(state, named, jax.random.key(0))
        >>> captured.tree(named, params)["w"].shape
        (4, 3)
    """

    def __init__(self, captured: Captured, params: Any) -> None:
        self._captured, self._params = captured, params

    def linearize(self, params: Any, batch: Batch) -> Linearized:
        """Return the function at these parameters and this batch.

        Args:
            params: By name, in the axes of the core.
            batch: Inputs and targets.

        Raises:
            ArgumentError: If the batch is none.
        """
        given: object = batch
        if not isinstance(given, Batch):
            msg = (
                f"CapturedModel: batch is a {type(given).__name__}, expected a"
                " kfac_adapters.jax.Batch(inputs, targets)"
            )
            raise ArgumentError(msg)
        tree = self._captured.tree(params, self._params)
        return Linearized(self._captured, tree, *batch)
