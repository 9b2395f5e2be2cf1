"""How the derivative of a weight by a parameter goes into the rows of its layer.

The entries of a weight ``W = f(w)`` that is made of a parameter have the derivatives
``D = f'(w)``. Where ``D`` is a product of what is along inputs and what is along
outputs, the layer of ``w`` has inputs and gradients times these, and stays what it is.
Any other ``D`` leaves no Kronecker product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from kfac_adapters.jax.alone import derivative
from kfac_adapters.jax.uses.base import Leaf, Use
from kfac_adapters.jax.uses.convolution import Convolution
from kfac_adapters.jax.uses.dense import Dense
from kfac_adapters.jax.uses.elementwise import Scale, Shift


@dataclass(frozen=True)
class Scaled:
    """Factors for the rows of one use.

    Attributes:
        of_inputs: What the data are multiplied by.
        of_outputs: What the gradients for the outputs are multiplied by.
    """

    of_inputs: tuple[Any, ...] = ()
    of_outputs: tuple[Any, ...] = ()

    def data(self, data: Any) -> Any:
        """Return the data of the use."""
        return _times(data, self.of_inputs)

    def zero(self, zero: Any) -> Any:
        """Return what is added to the output, of whose derivative gradients are."""
        return _times(zero, self.of_outputs)


def scaled(
    use: Use, leaf: Leaf, which: int, values: Sequence[Any], params: Any, bound: Any
) -> Scaled | str:
    """Return the factors for the rows of a use.

    Args:
        use: The use.
        leaf: The parameter, as its operand is made of it.
        which: Which operand that is.
        values: The operands.
        params: Parameters of the primitive.
        bound: Takes the operands to the output.

    Returns:
        The factors; or why there are none.
    """
    if isinstance(use, Scale | Shift):
        own = tuple(_spread(jnp.asarray(scale), use.shape) for scale in leaf.scales)
        return Scaled(of_inputs=own) if isinstance(use, Scale) else Scaled((), own)
    if use.kind == "embedding":
        given = list(values)
        given[which] = derivative(leaf, values[which])
        return Scaled((), (bound(given),))
    along: Mapping[int, tuple[bool, int]] = {}
    if isinstance(use, Dense):
        along = _of_product(which, values[which].ndim, use, params)
    elif isinstance(use, Convolution):
        along = _of_convolution(params)
    inputs, outputs = [], []
    for scale in map(jnp.asarray, leaf.scales):
        axes = [i for i, size in enumerate(scale.shape) if size > 1]
        sides = {along[axis][0] if axis in along else None for axis in axes}
        if len(sides) > 1 or None in sides:
            return (
                f"{', '.join(leaf.steps)} with numbers that are no product of one along"
                " inputs and one along outputs, which leaves no Kronecker product"
            )
        if sides == {True}:
            outputs.append(_placed(scale, axes, along, len(use.shape)))
        else:
            inputs.append(_placed(scale, axes, along, values[use.operand].ndim))
    return Scaled(tuple(inputs), tuple(outputs))


def _of_product(
    which: int, rank: int, use: Dense, params: Any
) -> dict[int, tuple[bool, int]]:
    """Return for each axis of a matrix whether it is of outputs, and its axis there."""
    (contracting, _) = params["dimension_numbers"]
    pairs = zip(contracting[which], contracting[1 - which], strict=True)
    along = {own: (False, other) for own, other in pairs}
    kept = [axis for axis in range(rank) if axis not in along]
    pairs_kept = zip(kept, use.features, strict=True)
    return along | {own: (True, other) for own, other in pairs_kept}


def _of_convolution(params: Any) -> dict[int, tuple[bool, int]]:
    numbers = params["dimension_numbers"]
    along = {numbers.rhs_spec[0]: (True, numbers.out_spec[1])}
    if params["feature_group_count"] == 1:
        along[numbers.rhs_spec[1]] = (False, numbers.lhs_spec[1])
    return along


def _placed(
    scale: Any, axes: Sequence[int], along: Mapping[int, tuple[bool, int]], rank: int
) -> Any:
    """Return factors in the axes of the data, or of the output."""
    places = [along[axis][1] for axis in axes]
    order = sorted(range(len(axes)), key=lambda i: places[i])
    kept = jnp.transpose(
        scale.reshape([scale.shape[axis] for axis in axes]), tuple(order)
    )
    shape = [1] * rank
    for i in order:
        shape[places[i]] = scale.shape[axes[i]]
    return kept.reshape(shape)


def _spread(scale: Any, shape: Sequence[int]) -> Any:
    return scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)


def _times(x: Any, factors: Sequence[Any]) -> Any:
    for factor in factors:
        x = x * factor.astype(x.dtype)
    return x
