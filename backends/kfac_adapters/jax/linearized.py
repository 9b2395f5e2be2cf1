"""`Linearized`: a captured function at some parameters and a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.function import Program
from kfac_adapters.jax.uses.base import Use
from kfac_core.errors import ArgumentError


class Linearized:
    """A `kfac_core.linearization.Linearization` of a function.

    Args:
        captured: What was captured of the function.
        params: Its parameters, as the user has them.
        inputs: Its other arguments.
        targets: Targets of the losses, in the axes of what the function returns.
    """

    def __init__(
        self,
        captured: Captured,
        params: Any,
        inputs: Sequence[Any],
        targets: Any = None,
    ) -> None:
        self._captured, self._params, self._inputs = captured, params, tuple(inputs)
        captured.check(params, "params")
        program = Program.of(captured.function, params, self._inputs)
        self._uses = self._same_uses(program)
        zeros = {
            site: jnp.zeros(use.shape, use.dtype) for site, use in self._uses.items()
        }
        arrays, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
        self._trained = [arrays[i] for i in captured.leaves.trained]

        def whole(trained: Sequence[Any]) -> Any:
            own = list(arrays)
            for place, leaf in zip(captured.leaves.trained, trained, strict=True):
                own[place] = leaf
            return jax.tree.unflatten(tree, own)

        def run(trained: Sequence[Any], zeros: Mapping[str, Any]) -> Any:
            outputs, reader = program.run(whole(trained), self._inputs, zeros)
            return outputs, reader.records

        self.outputs, self._pull, self._records = jax.vjp(
            run, self._trained, zeros, has_aux=True
        )
        self._whole = whole
        self.batch_size: int = captured.losses.cases(self.outputs)
        self.loss_inputs = captured.losses.flat(self.outputs)
        self.targets = captured.losses.targets(targets, self.outputs)
        self.masks: dict[str, Any] = {}
        self.layer_inputs = self._placed(self._records, of_inputs=True)

    def output_gradients(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        """Return gradients for the outputs of the layers; see `Linearization`."""
        _, outputs = self._pulled(vectors)
        return self._placed(outputs, of_inputs=False)

    def param_gradients(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        """Return gradients for the parameters; see `Linearization`."""
        trained, _ = self._pulled(vectors)
        by_index = dict(zip(self._captured.leaves.trained, trained, strict=True))
        return self._captured.named_leaves(by_index)

    def push_forward(self, tangents: Mapping[str, Any]) -> dict[str, Any]:
        """Return the change of the loss inputs; see `Linearization`."""
        changes = self._captured.by_index(tangents)
        trained = [
            changes[i].astype(leaf.dtype) if i in changes else jnp.zeros_like(leaf)
            for i, leaf in zip(
                self._captured.leaves.trained, self._trained, strict=True
            )
        ]
        function = self._captured.function
        _, outputs = jax.jvp(
            lambda trained: function(self._whole(trained), *self._inputs),
            (self._trained,),
            (trained,),
        )
        return self._captured.losses.flat(outputs)

    def summed_gradients(self, vectors: Any) -> dict[int, tuple[Any, Any]]:
        """Return what the rows of the layers say is the gradient of each parameter.

        Args:
            vectors: Vectors in the structure of what the function returns.

        Returns:
            By the index of each parameter that is in a layer the sum over its rows, in
            its form, and the same of absolute values, which bounds its rounding.
        """
        _, outputs = self._pull(vectors)
        sums: dict[int, tuple[Any, Any]] = {}

        def add(index: int, value: Any, bound: Any) -> None:
            own, of_own = sums.get(index, (0.0, 0.0))
            sums[index] = own + value, of_own + bound

        for layer in self._captured.layers:
            for use in [use for site in layer.sites for use in site.uses]:
                now = self._uses[use.site]
                x = now.inputs(self._records[use.site])
                g = now.gradients(outputs[use.site])
                size = jnp.abs(x) if jnp.issubdtype(x.dtype, jnp.floating) else x
                first, *others = layer.params
                add(first, now.gradient(x, g), now.gradient(size, jnp.abs(g)))
                if others and use.site in layer.biased:
                    form = layer.forms[1]
                    add(
                        others[0],
                        now.bias_gradient(g, form),
                        now.bias_gradient(jnp.abs(g), form),
                    )
        return sums

    def _pulled(self, vectors: Mapping[str, Any]) -> Any:
        return self._pull(self._captured.losses.like_outputs(vectors, self.outputs))

    def _placed(self, arrays: Mapping[str, Any], of_inputs: bool) -> dict[str, Any]:
        placed = {}
        leaves = jax.tree.leaves(self._params)
        for layer in self._captured.layers:
            dtype = jnp.result_type(leaves[layer.params[0]])
            for site in layer.sites:
                if of_inputs and not site.takes_inputs:
                    continue
                own = site.with_uses(self._uses)
                make = own.inputs if of_inputs else own.gradients
                placed[site.name] = _no_wider(make(arrays, self.batch_size), dtype)
        return placed

    def _same_uses(self, program: Program) -> dict[str, Use]:
        """Return the uses that were captured, as they are for this batch.

        Raises:
            ArgumentError: If the function does not use its parameters as it did.
        """
        found = program.discover(self._params, self._inputs).uses
        wanted = self._captured.uses
        changed = [
            site
            for site, use in wanted.items()
            if site not in found or not found[site].is_like(use)
        ]
        if changed:
            msg = (
                "capture: with these parameters or inputs the function does other than"
                f" when it was captured, at {changed};"
                " capture it anew for inputs of other kinds"
            )
            raise ArgumentError(msg)
        return {site: found[site] for site in wanted}


def _no_wider(array: Any, dtype: Any) -> Any:
    """Return data in the precision of the parameter, if theirs is higher."""
    is_wider = jnp.issubdtype(array.dtype, jnp.floating) and (
        jnp.finfo(array.dtype).bits > jnp.finfo(dtype).bits
    )
    return array.astype(dtype) if is_wider else array
