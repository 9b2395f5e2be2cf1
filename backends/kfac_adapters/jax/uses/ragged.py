"""Experts: ``ragged_dot``, each group of rows times a matrix of its own.

Which rows an expert has is known of the data alone, so that each has all rows, of which
those of others are zeros and do not count.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from kfac_adapters.jax.pieces import Piece
from kfac_adapters.jax.uses.base import Leaf
from kfac_adapters.jax.uses.dense import Dense, dense


@dataclass(frozen=True)
class Expert(Dense):
    """A product of some rows; the last of the data say which, by a one."""

    kind: ClassVar[str] = "expert"

    def _inputs(self, operand: Any) -> Any:
        return operand[:, :-1]

    def counts(self, operand: Any) -> Any:
        """Return one for each row that is the expert's, else zero, ``[*rows]``."""
        return self._mapped(lambda own: own[:, -1])(operand)


def experts(site: str, leaf: Leaf, values: Any, params: Any) -> list[Piece] | None:
    """Return the uses of the matrices ``[experts, in, out]`` of ``ragged_dot``.

    Args:
        site: Name of the place.
        leaf: The parameter, the second operand.
        values: The operands: rows ``[rows, in]``, matrices, sizes of the groups.
        params: Parameters of the primitive.

    Returns:
        The use of each expert; None of any other arrangement.
    """
    numbers = params["ragged_dot_dimension_numbers"]
    plain = (((1,), (1,)), ((), ()))
    x, w, sizes = values[:3]
    if (
        numbers.dot_dimension_numbers != plain
        or tuple(numbers.lhs_ragged_dimensions) != (0,)
        or tuple(numbers.rhs_group_dimensions) != (0,)
        or x.ndim != 2
        or len(values) > 3
        or leaf.is_joint
        or any(jnp.ndim(scale) for scale in leaf.scales)
    ):
        return None
    places = jnp.arange(x.shape[0])
    stops = jnp.cumsum(sizes)
    output = jax.ShapeDtypeStruct((x.shape[0], w.shape[2]), x.dtype)
    pieces = []
    for number in range(w.shape[0]):
        own = leaf.cut(0, number, number + 1)
        if own is None:
            return None
        own = own.without(0)
        product = {"dimension_numbers": (((1,), (0,)), ((), ()))}
        use = dense(f"{site}[{number}]", 1, own, (x, own), product, output)
        if isinstance(use, str):
            return None
        start = stops[number] - sizes[number]
        is_own = (places >= start) & (places < stops[number])
        mask = is_own[:, None].astype(x.dtype)
        factor = jnp.ones((), x.dtype)
        for scale in own.scales:
            factor = factor * jnp.asarray(scale).astype(x.dtype)
        # What the rows of others hold may be anything.
        data = jnp.concatenate([jnp.where(is_own[:, None], x, 0) * factor, mask], 1)

        def spread(zero: Any, mask: Any = mask) -> Any:
            return zero * mask.astype(zero.dtype)

        pieces.append(Piece(Expert(**vars(use)), data, spread))
    return pieces
