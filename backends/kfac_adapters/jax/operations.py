"""What one operation of a jaxpr does with the parameters among its operands."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import jax.numpy as jnp

from kfac_adapters.jax.alone import Alone, Fixed, is_of
from kfac_adapters.jax.charts import chart_of
from kfac_adapters.jax.pieces import Joined, Piece, added, between, joined, multiplied
from kfac_adapters.jax.slices import sliced
from kfac_adapters.jax.uses.base import Leaf, Output, Use
from kfac_adapters.jax.uses.convolution import convolution
from kfac_adapters.jax.uses.dense import dense
from kfac_adapters.jax.uses.elementwise import (
    Scale,
    Shift,
    bias_form,
    elementwise,
    is_separate,
)
from kfac_adapters.jax.uses.embedding import embedding
from kfac_adapters.jax.uses.heads import one_by_one
from kfac_adapters.jax.uses.ragged import experts
from kfac_adapters.jax.views import View, moved, whole

Tag: TypeAlias = Leaf | Output | Alone | Joined | Fixed | None
"""What is known of a value; None: data go into it."""

_LAYERS: dict[str, Callable[..., Use | str]] = {
    "dot_general": dense,
    "conv_general_dilated": convolution,
    "gather": embedding,
}
_ELEMENTWISE: dict[str, type[Scale] | type[Shift]] = {
    "mul": Scale,
    "add": Shift,
    "add_any": Shift,
    "sub": Shift,
    "div": Scale,
}
USED = frozenset({*_LAYERS, *_ELEMENTWISE})
"""The operations that are uses of a parameter."""


class Known(Protocol):
    """What was found before an operation."""

    uses: dict[str, Use]
    scaled: set[str]


def views_after(
    equation: Any, values: list[Any], tags: list[Tag], bound: Any
) -> list[Tag] | None:
    """Return what is known of the results of an operation of layout, or None."""
    name, params, first = equation.primitive.name, equation.params, tags[0]
    if isinstance(first, Leaf) and name in ("slice", "split", "unstack"):
        return sliced(first, name, params)
    if isinstance(first, Leaf) and name == "rev":
        turned = None if first.scales else first.turned(params["dimensions"])
        return None if turned is None else [turned]
    if name in ("concatenate", "stack", "pad"):
        found = joined(name, tags, values, params)
        return None if found is None else [found]
    if len(values) > 1 or not is_floating(equation.outvars[0].aval):
        return None
    if isinstance(first, Leaf):
        leaf = first.moved(name, params, lambda scale: bound([scale]))
        return None if leaf is None else [leaf]
    if isinstance(first, Joined):
        own = first.moved(name, params)
        return None if own is None else [own]
    if isinstance(first, Output):
        view = moved(first.view, name, params)
        return None if view is None else [replace(first, view=view)]
    return None


def pieces_of(
    equation: Any, values: list[Any], tags: list[Tag], site: str
) -> list[Piece] | None:
    """Return the uses of the parameters in an operation that has several, if so."""
    name, params, aval = (
        equation.primitive.name,
        equation.params,
        equation.outvars[0].aval,
    )
    if any(isinstance(tag, Alone) and is_of(tag) for tag in tags):
        return None
    if name == "concatenate" and not any(isinstance(tag, Joined) for tag in tags):
        return between(site, tags, values, params["dimension"])
    places = [i for i, tag in enumerate(tags) if isinstance(tag, Leaf | Joined)]
    if len(places) != 1:
        return None
    (which,) = places
    tag: Any = tags[which]
    if isinstance(tag, Joined):
        if name in ("add", "add_any"):
            return added(site, which, tag, values, aval)
        if name == "dot_general":
            return multiplied(site, which, tag, values, params, aval)
        return None
    if name == "dot_general" and not (tag.reversed or tag.is_joint or tag.scales):
        return one_by_one(site, which, tag, values, params, aval)
    if name in ("ragged_dot", "ragged_dot_general") and which == 1:
        return experts(site, tag, values, params)
    return None


def use_of(
    name: str, params: Any, values: Any, tags: Any, output: Any, site: str, known: Known
) -> Use | str:
    """Return the use of the one parameter in an operation, or why it is none."""
    own = [tag for tag in tags if is_of(tag)]
    steps = ", ".join(step for tag in own for step in getattr(tag, "steps", ()))
    if len(own) > 1:
        return f"{name} of two parameters"
    if not isinstance(own[0], Leaf):
        return steps or f"{name} of what is joined"
    which = tags.index(own[0])
    leaf = own[0]
    chart = chart_of(leaf) if leaf.is_joint else None
    if leaf.is_joint and (chart is None or name not in _LAYERS):
        return f"{steps}, and so made of several entries or parameters"
    if leaf.reversed and name != "conv_general_dilated":
        return f"{name} after rev"
    if name in _LAYERS:
        found = _LAYERS[name](site, which, leaf, values, params, output)
        return found if isinstance(found, str) else replace(found, chart=chart)
    if name not in _ELEMENTWISE:
        return f"{steps}, {name}" if steps else name
    # An operand of no axes is taken by `mul` and `add` as it is.
    missing = ((),) * (len(output.shape) - len(leaf.view.axes))
    leaf = replace(leaf, view=View((*missing, *leaf.view.axes)))
    if not is_separate(leaf.view):
        return f"{name} after a reshape of a broadcast"
    use = elementwise(_ELEMENTWISE[name], site, which, leaf, output)
    other = tags[1 - which]
    is_plain = (
        name != "sub"
        and not leaf.scales
        and getattr(other, "site", "") not in known.scaled
    )
    if isinstance(use, Shift) and isinstance(other, Output) and is_plain:
        before = known.uses[other.site]
        if isinstance(before, Scale):
            if other.view == whole(before.shape):
                return replace(use, after=other.site)
        elif (form := bias_form(leaf, other, before)) is not None:
            return replace(use, after=other.site, bias_form=form)
    return use


def bound_of(equation: Any, values: list[Any]) -> list[Any]:
    """Return the outputs of an equation."""
    given = equation.primitive.get_bind_params(equation.params)
    # A dictionary since JAX 0.10; before, functions and a dictionary.
    functions, params = ((), given) if isinstance(given, dict) else given
    output = equation.primitive.bind(*functions, *values, **params)
    return list(output) if equation.primitive.multiple_results else [output]


def is_floating(aval: Any) -> bool:
    """Return whether a value has floating-point numbers."""
    return hasattr(aval, "dtype") and bool(jnp.issubdtype(aval.dtype, jnp.floating))
