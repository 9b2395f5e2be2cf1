"""What a function makes of its parameters alone, before any data: ``1 - w``, ``c w``.

An entry of a parameter that goes through operations by itself, ``v = f(w)``, is
followed on: a product with ``v`` has the derivative ``f'(w)`` times that by ``v``. What
mixes entries, such as a norm, is known to be no data, and its part in a weight is told
by `kfac_adapters.jax.charts`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.uses.base import Leaf
from kfac_adapters.jax.views import Atom, View


@dataclass(frozen=True)
class Fixed:
    """A value without data or a derivative by a parameter, as a mask."""


@dataclass(frozen=True)
class Alone:
    """A value of parameters alone that is no layout of one.

    Attributes:
        leaves: Indices of the parameters whose derivative it has, but for those of
            layers, which have it already.
        steps: The operations that made it, for the message.
    """

    leaves: frozenset[int]
    steps: tuple[str, ...]


FIXED = Fixed()

_BY_ENTRY = frozenset(
    (
        *("add", "add_any", "sub", "mul", "div", "neg", "abs", "sign", "pow"),
        *("integer_pow", "square", "sqrt", "rsqrt", "cbrt", "exp", "exp2", "expm1"),
        *("log", "log1p", "logistic", "max", "min", "clamp", "select_n", "erf", "erfc"),
        *("erf_inv", "lgamma", "sin", "cos", "tan", "asin", "acos", "atan", "sinh"),
        *("cosh", "tanh", "asinh", "acosh", "atanh"),
    )
)
"""Operations whose results have of each operand the entry at the same place."""

_SUMS = frozenset({"add", "add_any", "sub"})
_PRODUCTS = frozenset({"mul", "div"})


def made(
    name: str, values: Sequence[Any], tags: Sequence[Any], shape: Any, bound: Any
) -> Leaf | None:
    """Return a parameter after an operation by entries, if it is that.

    Args:
        name: Name of the primitive.
        values: Its operands.
        tags: What is known of each: parameters, or no data.
        shape: Shape of the result.
        bound: Takes the operands to the result.

    Returns:
        The parameter; None if the result is none, or one that data are spread over.
    """
    if name not in _BY_ENTRY:
        return None
    own = [i for i, tag in enumerate(tags) if isinstance(tag, Leaf)]
    if not own or not all(isinstance(tag, Leaf | Fixed) or is_of(tag) for tag in tags):
        return None
    aligned = {i: _aligned(tags[i], shape) for i in own}
    carriers = [i for i in own if not aligned[i].view.is_broadcast]
    if not carriers:
        return None
    carrier = aligned[carriers[0]]
    alike = all(
        (leaf.part, leaf.view, leaf.others, leaf.is_mixed)
        == (carrier.part, carrier.view, (), False)
        for leaf in aligned.values()
    )
    if carrier.reversed:
        return None
    steps = (*carrier.steps, name)
    is_mixed = any(isinstance(tag, Alone) for tag in tags)
    if alike and not is_mixed:
        return replace(carrier, scales=_scales(name, values, tags, bound), steps=steps)
    if name in _SUMS and not carrier.is_joint:
        # Another parameter that is added changes no derivative.
        alien = [tag for i, tag in enumerate(tags) if i != carriers[0] and is_of(tag)]
        if any(carrier.part.leaf in tag.leaves for tag in alien):
            return None
        is_taken = name == "sub" and carriers[0] == 1
        return carrier.times(-1.0, name) if is_taken else replace(carrier, steps=steps)
    if name not in _PRODUCTS:
        return None
    others = [leaf for i, leaf in aligned.items() if i != carriers[0]]
    others += [more for leaf in aligned.values() for more in leaf.others]
    return replace(
        carrier,
        others=tuple(_once(carrier, others)),
        is_mixed=carrier.is_mixed or is_mixed or any(x.is_mixed for x in others),
        steps=steps,
    )


def is_of(tag: Any) -> bool:
    """Return whether a value has the derivative of a parameter, by no layer yet."""
    return bool(getattr(tag, "leaves", ()))


def rest(name: str, tags: Sequence[Any]) -> Alone | Fixed:
    """Return what is known of any other value that no data go into."""
    found: set[int] = set()
    steps: list[str] = []
    has_derivative = False
    for tag in tags:
        if not isinstance(tag, Fixed):
            has_derivative = True
            found |= {*getattr(tag, "leaves", ())}
            steps += [own for own in getattr(tag, "steps", ()) if own not in steps]
    if not has_derivative or name == "stop_gradient":
        return FIXED
    return Alone(frozenset(found), (*steps, *(() if name in steps else (name,))))


def _once(carrier: Leaf, others: Iterable[Leaf]) -> list[Leaf]:
    """Return other parameters, each once."""
    found: list[Leaf] = []
    known = [carrier.part]
    for leaf in others:
        if leaf.part not in known:
            found.append(replace(leaf, others=()))
            known.append(leaf.part)
    return found


def _aligned(leaf: Leaf, shape: Sequence[int]) -> Leaf:
    """Return a parameter in the axes of what it is broadcast to."""
    missing = len(shape) - len(leaf.view.axes)

    def spread(view: View) -> View:
        axes = (*((),) * missing, *view.axes)
        return View(
            tuple(
                (Atom((-1, i), size, real=False),) if not axis and size > 1 else axis
                for i, (axis, size) in enumerate(zip(axes, shape, strict=True))
            )
        )

    others = tuple(replace(own, view=spread(own.view)) for own in leaf.others)
    return replace(leaf, view=spread(leaf.view), others=others)


def _scales(
    name: str, values: Sequence[Any], tags: Sequence[Any], bound: Any
) -> tuple[Any, ...]:
    """Return the factors of the derivative of the result by its entries."""
    own = [i for i, tag in enumerate(tags) if isinstance(tag, Leaf)]
    first = tags[own[0]].scales
    if len(own) == 1:
        (place,) = own
        if name in ("add", "add_any", "sub"):
            return (*first, jnp.asarray(-1.0)) if name == "sub" and place else first
        if name == "neg":
            return (*first, jnp.asarray(-1.0))
        if name == "mul":
            return (*first, values[1 - place])
        if name == "div" and place == 0:
            return (*first, 1.0 / values[1])

    def of_own(*given: Any) -> Any:
        arrays = list(values)
        for i, array in zip(own, given, strict=True):
            arrays[i] = array
        return bound(arrays)

    primals = tuple(values[i] for i in own)
    tangents = tuple(derivative(tags[i], values[i]) for i in own)
    return (jax.jvp(of_own, primals, tangents)[1],)


def derivative(leaf: Leaf, value: Any) -> Any:
    """Return the derivative of the entries of a value by those of a parameter."""
    found = jnp.ones_like(value)
    for scale in leaf.scales:
        found = found * jnp.asarray(scale).astype(found.dtype)
    return found
