"""Whether what the layers see is all that a parameter does: the first batch tells.

The gradient for a parameter is the sum over the rows of its layer of inputs times
gradients for outputs. Where that is not what the framework itself says, a use was
missed, or a rule of derivation that the user wrote was not followed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.linearized import Linearized


class Mismatch(NamedTuple):
    """A parameter whose layer does not see all that it does.

    Attributes:
        param: Index of the parameter.
        is_bias: Whether it is the second parameter of its layer.
        error: Norm of the difference over the sum of the norms that were added up.
    """

    param: int
    is_bias: bool
    error: float


def mismatches(
    captured: Captured, params: Any, inputs: Sequence[Any]
) -> list[Mismatch]:
    """Return the parameters whose gradient is not the sum over their rows.

    Args:
        captured: What is to be verified.
        params: Parameters, of which none may be a tracer.
        inputs: Other arguments of the function, none of them a tracer.
    """
    if not captured.layers:
        return []

    def errors(params: Any, inputs: Any) -> Any:
        at = Linearized(captured, params, inputs)
        keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(at.outputs)))
        flat, tree = jax.tree.flatten(at.outputs)
        vectors = jax.tree.unflatten(
            tree,
            [
                jax.random.normal(key, x.shape, jnp.float32).astype(x.dtype)
                for key, x in zip(keys, flat, strict=True)
            ],
        )
        truth = _own_gradients(captured, params, inputs, vectors)
        return {
            index: (
                jnp.linalg.norm(
                    (own - captured.forms[index].to_core(truth[index])).ravel()
                ),
                jnp.linalg.norm(bound.ravel()),
            )
            for index, (own, bound) in at.summed_gradients(vectors).items()
        }

    found = jax.jit(errors)(params, tuple(inputs))
    leaves = jax.tree.leaves(params)
    biases = {layer.params[1] for layer in captured.layers if len(layer.params) > 1}
    precision = {
        index: min([_bits(leaves[index]), *_use_bits(captured, index)])
        for index in found
    }
    bad = []
    for index, (error, bound) in found.items():
        relative = float(error) / max(float(bound), 1e-30)
        # Half of the digits: rounding takes fewer, and a use that is missed takes all.
        if not relative <= 2.0 ** (-precision[index] / 2):
            bad.append(Mismatch(index, index in biases, relative))
    return bad


def _own_gradients(
    captured: Captured, params: Any, inputs: Any, vectors: Any
) -> dict[int, Any]:
    """Return the gradients of the user's function itself, by index."""
    arrays, tree = jax.tree.flatten(params)
    trained = captured.leaves.trained

    def function(own: Sequence[Any]) -> Any:
        leaves = list(arrays)
        for place, leaf in zip(trained, own, strict=True):
            leaves[place] = leaf
        return captured.function(jax.tree.unflatten(tree, leaves), *inputs)

    _, pull = jax.vjp(function, [arrays[i] for i in trained])
    (gradients,) = pull(vectors)
    return dict(zip(trained, gradients, strict=True))


def _bits(array: Any) -> int:
    return int(jnp.finfo(jnp.result_type(array)).nmant)


def _use_bits(captured: Captured, index: int) -> list[int]:
    return [
        int(jnp.finfo(use.dtype).nmant)
        for layer in captured.layers
        if index in layer.params
        for site in layer.sites
        for use in site.uses
    ]
