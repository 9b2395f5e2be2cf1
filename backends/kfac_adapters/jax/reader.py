"""`Reader`: runs a jaxpr, following parameters to the operations that use them.

A parameter is followed through layout operations, slices, calls, custom derivatives,
scans and rematerialisation. Where it meets data in an operation that is a layer, the
use is noted, its data are returned, and a zero is added to its output: the derivative
by that zero is the gradient for the output. A use in any other operation is an
*escape*: what is summed over the uses that are known is then not the gradient of the
parameter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from kfac_adapters.jax.scans import Scan
from kfac_adapters.jax.slices import sliced
from kfac_adapters.jax.uses.base import Leaf, Output, Use
from kfac_adapters.jax.uses.convolution import convolution
from kfac_adapters.jax.uses.dense import dense, one_by_one
from kfac_adapters.jax.uses.elementwise import (
    Scale,
    Shift,
    bias_form,
    elementwise,
    is_separate,
)
from kfac_adapters.jax.uses.embedding import embedding
from kfac_adapters.jax.views import View, moved, whole

Tag: TypeAlias = Leaf | Output | None
"""What is known of a value."""

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
_REMAT = frozenset({"remat", "remat2", "checkpoint"})
_LAYERS: dict[str, Callable[..., Use | str]] = {
    "dot_general": dense,
    "conv_general_dilated": convolution,
    "gather": embedding,
}
_ELEMENTWISE: dict[str, type[Scale] | type[Shift]] = {
    "mul": Scale,
    "add": Shift,
    "add_any": Shift,
}


@dataclass
class Reader:
    """One run of a jaxpr.

    Attributes:
        zeros: What is added to outputs, by site.
        uses: The uses that were found, by site.
        escaped: For each parameter that escapes, by its index, in what operations.
        seen: Parameters that have a use of any kind.
        records: The data of the uses that have a zero, by site; of all, where there
            are no zeros.
    """

    zeros: Mapping[str, Any]
    uses: dict[str, Use] = field(default_factory=dict)
    escaped: dict[int, list[str]] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)

    def run(
        self, jaxpr: Any, consts: Sequence[Any], values: Sequence[Any], tags: Any
    ) -> list[Any]:
        """Return the outputs of a jaxpr.

        Args:
            jaxpr: What to run.
            consts: Its constants.
            values: Its arguments.
            tags: What is known of each.
        """
        outputs, known = self._run(jaxpr, consts, values, tags, "")
        for tag in known:
            if isinstance(tag, Leaf):
                self._escape(tag, "the output of the function")
        return outputs

    def _run(
        self, jaxpr: Any, consts: Any, values: Any, tags: Any, prefix: str
    ) -> tuple[list[Any], list[Tag]]:
        known = dict(zip(jaxpr.constvars, consts, strict=True))
        known |= dict(zip(jaxpr.invars, values, strict=True))
        tagged: dict[Any, Tag] = dict(zip(jaxpr.invars, tags, strict=True))

        def value(variable: Any) -> Any:
            return variable.val if isinstance(variable, Literal) else known[variable]

        def tag(variable: Any) -> Tag:
            return None if isinstance(variable, Literal) else tagged.get(variable)

        number = 0
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            site = f"{prefix}{number}.{name}"
            # JAX adds casts within `shard_map`, and a site has one name everywhere.
            number += name not in ("pvary", "pcast")
            outputs, new = self._equation(
                equation,
                [value(variable) for variable in equation.invars],
                [tag(variable) for variable in equation.invars],
                site,
            )
            known.update(zip(equation.outvars, outputs, strict=True))
            tagged.update(zip(equation.outvars, new, strict=True))
        return (
            [value(variable) for variable in jaxpr.outvars],
            [tag(variable) for variable in jaxpr.outvars],
        )

    def _equation(
        self, equation: Any, values: list[Any], tags: list[Tag], site: str
    ) -> tuple[list[Any], list[Tag]]:
        name, params = equation.primitive.name, equation.params
        nothing: list[Tag] = [None] * len(equation.outvars)
        leaves = [tag for tag in tags if isinstance(tag, Leaf)]
        if not any(tags):
            return _bound(equation, values), nothing
        if name in _CALLS and (leaves or name in ("jit", "pjit")):
            inner, consts = _opened(params[_CALLS[name]])
            return self._run(inner, consts, values, tags, f"{site}/")
        if name in _REMAT and leaves:
            return self._rematerialised(params, values, tags, site)
        if name == "scan" and leaves:
            return self._scanned(params, values, tags, site), nothing
        first = tags[0]
        if isinstance(first, Leaf) and name in ("slice", "split"):
            cut = sliced(first, name, params)
            if cut is not None:
                return _bound(equation, values), cut
        if isinstance(first, Leaf) and name == "rev":
            turned = first.turned(params["dimensions"])
            if turned is not None:
                return _bound(equation, values), [turned]
        if first is not None and len(values) == 1:
            view = moved(first.view, name, params)
            if view is not None and _is_floating(equation.outvars[0].aval):
                return _bound(equation, values), [replace(first, view=view)]
        if not leaves or name == "stop_gradient":
            return _bound(equation, values), nothing
        if not any(_is_floating(variable.aval) for variable in equation.outvars):
            return _bound(equation, values), nothing  # no derivative passes
        if name == "dot_general" and len(leaves) == 1 and not leaves[0].reversed:
            outputs = self._batched(equation, values, tags, site)
            if outputs is not None:
                return outputs, nothing
        found = self._use(name, params, values, tags, equation.outvars[0].aval, site)
        if isinstance(found, str):
            for leaf in leaves:
                self._escape(leaf, found)
            return _bound(equation, values), nothing
        self.uses[site] = found
        (output,) = _bound(equation, values)
        if site in self.zeros or not self.zeros:
            self.records[site] = jnp.asarray(values[found.operand])
        if site in self.zeros:
            output = output + self.zeros[site]
        return [output], [Output(site, whole(output.shape))]

    def _use(
        self, name: str, params: Any, values: Any, tags: Any, output: Any, site: str
    ) -> Use | str:
        """Return the use of the one parameter in an operation, or why it is none."""
        places = [i for i, tag in enumerate(tags) if isinstance(tag, Leaf)]
        which = places[0]
        if len(places) > 1:
            return f"{name} of two parameters"
        leaf = tags[which]
        if leaf.reversed and name != "conv_general_dilated":
            return f"{name} after rev"
        if name in _LAYERS:
            return _LAYERS[name](site, which, leaf, values, params, output)
        if name not in _ELEMENTWISE:
            return name
        # An operand of no axes is taken by `mul` and `add` as it is.
        missing = ((),) * (len(output.shape) - len(leaf.view.axes))
        leaf = replace(leaf, view=View((*missing, *leaf.view.axes)))
        if not is_separate(leaf.view):
            return f"{name} after a reshape of a broadcast"
        use = elementwise(_ELEMENTWISE[name], site, which, leaf, output)
        other = tags[1 - which]
        if isinstance(use, Shift) and isinstance(other, Output):
            before = self.uses[other.site]
            if isinstance(before, Scale):
                if other.view == whole(before.shape):
                    return replace(use, after=other.site)
            elif (form := bias_form(leaf, other, before)) is not None:
                return replace(use, after=other.site, bias_form=form)
        return use

    def _batched(
        self, equation: Any, values: list[Any], tags: list[Tag], site: str
    ) -> list[Any] | None:
        """Return the output of a product with a matrix for each head, if it is one."""
        which = next(i for i, tag in enumerate(tags) if isinstance(tag, Leaf))
        leaf: Any = tags[which]
        aval = equation.outvars[0].aval
        found = one_by_one(site, which, leaf, values, equation.params, aval)
        if found is None:
            return None
        batch, uses = found
        (output,) = _bound(equation, values)
        for number, use in enumerate(uses):
            self.uses[use.site] = use
            if use.site in self.zeros or not self.zeros:
                data = batch.of_data(values[use.operand], number)
                self.records[use.site] = data
        own = [self.zeros[use.site] for use in uses if use.site in self.zeros]
        if len(own) == len(uses):
            output = output + jnp.stack(own)
        return [output]

    def _rematerialised(
        self, params: Any, values: list[Any], tags: list[Tag], site: str
    ) -> tuple[list[Any], list[Tag]]:
        """Run what is to be run again in the backward pass, zeros and all."""
        inner, consts = _opened(params["jaxpr"])
        new: list[Tag] = []

        def body(values: Any, zeros: Any) -> Any:
            reader = Reader(zeros)
            # A use before may be what a bias within is added to.
            reader.uses = self.uses
            reader.escaped = self.escaped
            outputs, known = reader._run(inner, consts, values, tags, f"{site}/")
            new[:] = known
            return outputs, reader.records

        own = {k: v for k, v in self.zeros.items() if k.startswith(f"{site}/")}
        if self.zeros and not own:
            own = {"": jnp.zeros(())}  # zeros there are, but none for here
        outputs, records = jax.checkpoint(
            body,
            policy=params.get("policy"),
            prevent_cse=params.get("prevent_cse", True),
        )(values, own)
        self.records |= records
        return outputs, new

    def _scanned(
        self, params: Any, values: list[Any], tags: list[Tag], site: str
    ) -> list[Any]:
        """Run a scan; see `kfac_adapters.jax.scans`."""
        plan = Scan.of(params, values, tags, site)
        for leaf, where in plan.escaped:
            self._escape(leaf, where)
        inner, consts = _opened(params["jaxpr"])

        def body(values: list[Any], zeros: Mapping[str, Any]) -> Any:
            # Zeros there are, but none for here, or nothing is sought.
            own = zeros if zeros or not self.zeros else {"": jnp.zeros(())}
            reader = Reader(own, escaped=self.escaped)
            outputs, known = reader._run(inner, consts, values, plan.tags, f"{site}/")
            for tag in known:
                if isinstance(tag, Leaf):
                    self._escape(tag, "the output of scan")
            return outputs, reader

        outputs, uses, records = plan.run(body, self.zeros)
        self.uses |= uses
        self.records |= records
        return outputs

    def _escape(self, leaf: Leaf, where: str) -> None:
        found = self.escaped.setdefault(leaf.part.leaf, [])
        if where not in found:
            found.append(where)


def _opened(jaxpr: Any) -> tuple[Any, Any]:
    """Return a jaxpr and its constants, be it closed or open."""
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, [])


def _bound(equation: Any, values: list[Any]) -> list[Any]:
    """Return the outputs of an equation."""
    given = equation.primitive.get_bind_params(equation.params)
    # A dictionary since JAX 0.10; before, functions and a dictionary.
    functions, params = ((), given) if isinstance(given, dict) else given
    output = equation.primitive.bind(*functions, *values, **params)
    return list(output) if equation.primitive.multiple_results else [output]


def _is_floating(aval: Any) -> bool:
    return hasattr(aval, "dtype") and bool(jnp.issubdtype(aval.dtype, jnp.floating))
