"""What a first batch shows of the uses of parameters: one program, of two questions.

Whether the gradient of each parameter is the sum over the rows of its uses: where that
is not what the framework itself says, a use was missed, or a rule of derivation that
the user wrote was not followed. And which rows the loss of a case reaches: vectors that
are zero for some cases give rows without a gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kfac_adapters.jax.charts import Chart
from kfac_adapters.jax.forms import Form
from kfac_adapters.jax.function import Discovered, Program
from kfac_adapters.jax.losses import Losses
from kfac_adapters.jax.parts import Part
from kfac_adapters.jax.uses.base import Use
from kfac_adapters.jax.uses.elementwise import Scale, Shift
from kfac_adapters.row_evidence import judge, masks
from kfac_adapters.row_orders import RowOrder, order_of


class Difference(NamedTuple):
    """How far a gradient is from the sum over rows.

    Attributes:
        error: Norm of the difference over the sum of the norms that were added up.
        bits: Digits of the parameter and its outputs.
    """

    error: float
    bits: int

    @property
    def is_real(self) -> bool:
        """Whether it is more than rounding.

        Rounding takes fewer than half of the digits, and a missed use takes all.
        """
        return not self.error <= 2.0 ** (-self.bits / 2)


@dataclass(frozen=True)
class Evidence:
    """What was found.

    Attributes:
        of_rows: For each parameter, or part of one, the difference of its gradient and
            the sum over the rows of its uses.
        of_biases: For each parameter that is added to the outputs of another's uses,
            that of its gradient and the sum over these.
        orders: The order of the rows of each use, by site.
        unreached: Sites of uses that no loss reaches, as where a derivative is stopped.
    """

    of_rows: Mapping[Part, Difference]
    of_biases: Mapping[Part, Difference]
    orders: Mapping[str, RowOrder]
    unreached: frozenset[str]


def guessed_orders(
    uses: Mapping[str, Use], cases: Sequence[int]
) -> dict[str, RowOrder]:
    """Return the likeliest order of the rows of each use, by shapes alone."""
    return {
        site: order_of(use.rows, cases, lambda axis, place: None)
        for site, use in uses.items()
    }


def evidence_of(
    program: Program,
    function: Callable[..., Any],
    found: Discovered,
    losses: Losses,
    params: Any,
    inputs: Sequence[Any],
) -> Evidence:
    """Return what a batch shows of the uses of parameters.

    Args:
        program: The function as it was traced.
        function: The function itself.
        found: Its uses.
        losses: What it returns.
        params: Parameters, of which none is a tracer.
        inputs: Other arguments, none of them a tracer.
    """
    uses, cases = found.uses, losses.case_shape(found.outputs)

    def shown(params: Any, inputs: Any) -> Any:
        at = program.pulled(params, inputs, uses)
        keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(at.outputs)))
        flat, tree = jax.tree.flatten(at.outputs)
        vectors = jax.tree.unflatten(
            tree,
            [
                jax.random.normal(key, x.shape, jnp.float32).astype(x.dtype)
                for key, x in zip(keys, flat, strict=True)
            ],
        )
        _, outputs = at.pull(vectors)
        _, own_pull = jax.vjp(lambda own: function(at.whole(own), *inputs), at.trained)
        (truth,) = own_pull(vectors)
        differences = _differences(
            uses,
            at.records,
            outputs,
            dict(zip(program.leaves.trained, truth, strict=True)),
            dict(zip(program.leaves.trained, at.trained, strict=True)),
        )

        def reached(mask: Any) -> Any:
            _, own = at.pull(losses.masked(vectors, mask))
            return {
                site: _is_reached(use.gradients(own[site]), use)
                for site, use in uses.items()
            }

        return differences, jax.lax.map(reached, jnp.asarray(masks(cases)))

    compiled = jax.jit(shown)
    differences, reached = jax.device_get(compiled(params, tuple(inputs)))
    if uses and not all(np.any(x) for x in reached.values()):
        # Zeros at the start, such as those of a last layer, hide what is before them.
        _, other = jax.device_get(compiled(_shaken(params), tuple(inputs)))
        reached = {k: x if np.any(x) else other[k] for k, x in reached.items()}
    bits = _bits(params, uses)
    of_rows, of_biases = (
        {
            i: Difference(float(error) / max(float(bound), 1e-30), bits[i])
            for i, (error, bound) in each.items()
        }
        for each in differences
    )
    orders = {
        site: order_of(use.rows, cases, judge(reached[site], use.rows, cases))
        for site, use in uses.items()
    }
    unreached = frozenset(site for site, own in reached.items() if not np.any(own))
    return Evidence(of_rows, of_biases, orders, unreached)


def _differences(
    uses: Mapping[str, Use],
    records: Any,
    outputs: Any,
    truth: Mapping[int, Any],
    params: Mapping[int, Any],
) -> tuple[dict[Part, Any], dict[Part, Any]]:
    """Return for each parameter, and each bias, the norms of error and bound."""
    of_rows: dict[Part, tuple[Any, Any, Form]] = {}
    of_biases: dict[Part, tuple[Any, Any, Form]] = {}

    def add(
        to: dict[Part, Any], index: Part, value: Any, bound: Any, like: Any
    ) -> None:
        own, of_own, _ = to.get(index, (0.0, 0.0, None))
        to[index] = own + value, of_own + bound, like

    forms: dict[Part, set[Form]] = {}
    for use in uses.values():
        forms.setdefault(use.leaf, set()).add(use.form)
    for site, use in uses.items():
        g = use.gradients(outputs[site])
        if len(forms[use.leaf]) == 1:  # else no layer takes it
            x = use.inputs(records[site])
            size = jnp.abs(x) if jnp.issubdtype(x.dtype, jnp.floating) else x
            value, bound = use.gradient(x, g), use.gradient(size, jnp.abs(g))
            add(of_rows, use.leaf, value, bound, use.form)
        if isinstance(use, Shift) and use.after is not None:
            before = uses[use.after]
            form = use.form if isinstance(before, Scale) else use.bias_form
            if form is None:
                continue
            g = before.gradients(outputs[use.after])
            value, bound = (before.bias_gradient(h, form) for h in (g, jnp.abs(g)))
            add(of_biases, use.leaf, value, bound, form)

    def norms(found: dict[Part, Any]) -> dict[Part, Any]:
        return {
            part: (
                jnp.linalg.norm(
                    (value - form.to_core(part.of(truth[part.leaf]))).ravel()
                ),
                jnp.linalg.norm(bound.ravel()),
            )
            for part, (value, bound, form) in found.items()
        }

    charts = {use.leaf: use.chart for use in uses.values() if use.chart}
    made = {part: of_rows.pop(part) for part in charts if part in of_rows}
    return norms(of_rows) | {
        part: _made_differences(charts[part], params, form.to_leaf(value), truth)
        for part, (value, _, form) in made.items()
    }, norms(of_biases)


def _made_differences(
    chart: Chart, params: Mapping[int, Any], gradient: Any, truth: Mapping[int, Any]
) -> tuple[Any, Any]:
    """Return the norms of error and bound for a weight that is made of others."""
    pulled = chart.pulled(params, gradient)
    size = jnp.linalg.norm(gradient.ravel())
    pairs = [(x.ravel(), truth[leaf].ravel()) for leaf, x in pulled.items()]
    error = sum(jnp.linalg.norm(x - true) for x, true in pairs)
    return error, size + sum(jnp.linalg.norm(true) for _, true in pairs)


def _is_reached(gradients: Any, use: Use) -> Any:
    """Return for each row whether it has a gradient, ``[*rows]``."""
    axes = tuple(range(len(use.rows), gradients.ndim))
    size = jnp.max(jnp.abs(gradients), axis=axes) if axes else jnp.abs(gradients)
    # What is not finite tells nothing.
    return jnp.where(jnp.isfinite(size), size, 0.0) > 0


def _shaken(params: Any) -> Any:
    """Return parameters with a little noise."""
    rng = np.random.default_rng(0)

    def shaken(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf + jnp.asarray(rng.normal(size=leaf.shape) / 16, leaf.dtype)

    return jax.tree.map(shaken, params)


def _bits(params: Any, uses: Mapping[str, Use]) -> dict[Part, int]:
    """Return the number of digits of each parameter, or of its outputs, if fewer."""
    leaves = jax.tree.leaves(params)
    bits: dict[Part, int] = {}
    for use in uses.values():
        found = [jnp.result_type(leaves[use.leaf.leaf]), use.dtype]
        if isinstance(use, Shift) and use.after is not None:
            found.append(uses[use.after].dtype)
        least = min(int(jnp.finfo(dtype).nmant) for dtype in found)
        bits[use.leaf] = min(bits.get(use.leaf, least), least)
    return bits
