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
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from kfac_adapters.jax.alone import FIXED, is_of, made, rest
from kfac_adapters.jax.operations import (
    USED,
    Tag,
    bound_of,
    is_floating,
    pieces_of,
    use_of,
    views_after,
)
from kfac_adapters.jax.scales import Scaled, scaled
from kfac_adapters.jax.scans import Scan
from kfac_adapters.jax.uses.base import Leaf, Output, Use
from kfac_adapters.jax.views import whole

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
        scaled: Sites whose gradients are multiplied by something.
    """

    zeros: Mapping[str, Any]
    uses: dict[str, Use] = field(default_factory=dict)
    escaped: dict[int, list[str]] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)
    scaled: set[str] = field(default_factory=set)

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
            if is_of(tag):
                self._escape(tag, "the output of the function")
        return outputs

    def _run(
        self, jaxpr: Any, consts: Any, values: Any, tags: Any, prefix: str
    ) -> tuple[list[Any], list[Tag]]:
        known = dict(zip(jaxpr.constvars, consts, strict=True))
        known |= dict(zip(jaxpr.invars, values, strict=True))
        tagged: dict[Any, Tag] = dict.fromkeys(jaxpr.constvars, FIXED)
        tagged |= dict(zip(jaxpr.invars, tags, strict=True))

        def value(variable: Any) -> Any:
            return variable.val if isinstance(variable, Literal) else known[variable]

        def tag(variable: Any) -> Tag:
            return FIXED if isinstance(variable, Literal) else tagged.get(variable)

        number = 0
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            site = f"{prefix}{number}.{name}"
            # A site has one name everywhere: JAX adds casts within `shard_map`, and a
            # parameter of a weak type, as of Python, has another one after a step.
            number += name not in ("pvary", "pcast", "convert_element_type")
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
        # No data go in, but parameters and constants alone.
        is_free = all(
            tag is not None and (not isinstance(tag, Output) or tag.is_free)
            for tag in tags
        )
        of_params: list[Any] = [tag for tag in tags if is_of(tag)]
        others: list[Tag] = (
            [rest(name, tags)] * len(equation.outvars) if is_free else nothing
        )
        if not of_params and not any(isinstance(tag, Output) for tag in tags):
            return bound_of(equation, values), others
        if name in _CALLS and (of_params or name in ("jit", "pjit")):
            inner, consts = _opened(params[_CALLS[name]])
            return self._run(inner, consts, values, tags, f"{site}/")
        if name in _REMAT and of_params:
            return self._rematerialised(params, values, tags, site)
        if name == "scan" and of_params:
            return self._scanned(params, values, tags, site), nothing

        def bound(given: Any) -> Any:
            (output,) = bound_of(equation, given)
            return output

        view = views_after(equation, values, tags, bound)
        if view is not None:
            return bound_of(equation, values), view
        if not of_params or name == "stop_gradient":
            return bound_of(equation, values), others
        if not any(is_floating(variable.aval) for variable in equation.outvars):
            # No derivative passes.
            return bound_of(equation, values), [FIXED if is_free else None] * len(
                nothing
            )
        shape = getattr(equation.outvars[0].aval, "shape", ())
        if is_free:
            leaf = made(name, values, tags, shape, bound)
            if leaf is not None:
                for tag in of_params if name in ("add", "add_any", "sub") else ():
                    if not {*tag.leaves} <= {*leaf.leaves}:
                        self._escape(tag, f"{name} to another parameter")
                return bound_of(equation, values), [leaf]
        leaves = [tag for tag in of_params if isinstance(tag, Leaf)]
        if is_free and (len(leaves) != 1 or len(of_params) > 1 or name not in USED):
            return bound_of(equation, values), others
        if name == "sub" and isinstance(tags[1], Leaf):
            tags = [tags[0], tags[1].times(-1.0, name)]
            leaves = [tag for tag in tags if isinstance(tag, Leaf)]
        pieces = pieces_of(equation, values, tags, site)
        if pieces is not None:
            (output,) = bound_of(equation, values)
            for piece in pieces:
                output = self._noted(piece.use, piece.data, piece.spread, output)
            return [output], nothing
        found = use_of(name, params, values, tags, equation.outvars[0].aval, site, self)
        factors: Scaled | str = "" if isinstance(found, str) else Scaled()
        if not isinstance(found, str) and leaves[0].scales:
            factors = scaled(
                found, leaves[0], tags.index(leaves[0]), values, params, bound
            )
        if isinstance(found, str) or isinstance(factors, str):
            for tag in of_params:
                self._escape(tag, found if isinstance(found, str) else str(factors))
            return bound_of(equation, values), others
        if factors.of_outputs:
            self.scaled.add(site)
        own = jnp.asarray(values[found.operand])
        if name == "div":  # by the numerator or the denominator
            own = 1 / own if found.operand else -own / jnp.square(values[1])
        data = factors.data(own)
        (output,) = bound_of(equation, values)
        output = self._noted(found, data, factors.zero, output)
        return [output], [Output(site, whole(output.shape), is_free)]

    def _noted(
        self, use: Use, data: Any, spread: Callable[[Any], Any], output: Any
    ) -> Any:
        """Note a use, and return the output with its zero, if it has one."""
        self.uses[use.site] = use
        if use.site in self.zeros or not self.zeros:
            self.records[use.site] = data
        if use.site not in self.zeros:
            return output
        return output + spread(self.zeros[use.site])

    def _rematerialised(
        self, params: Any, values: list[Any], tags: list[Tag], site: str
    ) -> tuple[list[Any], list[Tag]]:
        """Run what is to be run again in the backward pass, zeros and all."""
        inner, consts = _opened(params["jaxpr"])
        new: list[Tag] = []

        def body(values: Any, zeros: Any) -> Any:
            reader = Reader(zeros)
            # A use before may be what a bias within is added to.
            reader.uses, reader.escaped = self.uses, self.escaped
            reader.scaled = self.scaled
            outputs, known = reader._run(inner, consts, values, tags, f"{site}/")
            new[:] = known
            scales = [tag.scales if isinstance(tag, Leaf) else () for tag in known]
            return outputs, reader.records, scales

        own = {k: v for k, v in self.zeros.items() if k.startswith(f"{site}/")}
        if self.zeros and not own:
            own = {"": jnp.zeros(())}  # zeros there are, but none for here
        outputs, records, scales = jax.checkpoint(
            body,
            policy=params.get("policy"),
            prevent_cse=params.get("prevent_cse", True),
        )(values, own)
        self.records |= records
        # Their arrays are those of the function that was run again.
        tags = [
            replace(tag, scales=tuple(own)) if isinstance(tag, Leaf) else tag
            for tag, own in zip(new, scales, strict=True)
        ]
        return outputs, tags

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
            reader = Reader(own, escaped=self.escaped, scaled=self.scaled)
            outputs, known = reader._run(inner, consts, values, plan.tags, f"{site}/")
            for tag in known:
                if is_of(tag):
                    self._escape(tag, "the output of scan")
            return outputs, reader

        outputs, uses, records = plan.run(body, self.zeros)
        self.uses |= uses
        self.records |= records
        return outputs

    def _escape(self, tag: Any, where: str) -> None:
        for leaf in tag.leaves:
            found = self.escaped.setdefault(leaf, [])
            if where not in found:
                found.append(where)


def _opened(jaxpr: Any) -> tuple[Any, Any]:
    """Return a jaxpr and its constants, be it closed or open."""
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, [])
