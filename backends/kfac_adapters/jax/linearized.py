"""`Linearized`: a captured function at some parameters and a batch."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.function import Program
from kfac_adapters.jax.places import check_axes, differing
from kfac_adapters.jax.sites import Cases
from kfac_adapters.jax.uses.base import Use
from kfac_core.errors import ArgumentError
from kfac_core.estimator.counting import case_weights
from kfac_core.registered_losses import losses_at


class Linearized:
    """A `kfac_core.linearization.Linearization` of a function.

    Args:
        captured: What was captured of the function.
        params: Its parameters, as the user has them.
        inputs: Its other arguments.
        targets: Targets of the losses, in the axes of what the function returns.
        weights: How much each position of the losses counts, in the same axes.
        axis_names: Names of the axes over which the batch is mapped: then these are the
            data of one place.
    """

    def __init__(
        self,
        captured: Captured,
        params: Any,
        inputs: Sequence[Any],
        targets: Any = None,
        weights: Any = None,
        *,
        axis_names: tuple[str, ...] = (),
    ) -> None:
        captured.check(params, "params")
        check_axes(axis_names)
        self.axis_names = axis_names
        params = differing(params)
        self._captured, self._params, self._inputs = captured, params, tuple(inputs)
        program = Program.of(captured.function, params, self._inputs)
        self._uses = self._same_uses(program)
        self._at = program.pulled(params, self._inputs, self._uses)
        self.outputs = self._at.outputs
        losses = captured.losses
        self._cases = Cases(losses.case_shape(self.outputs), captured.orders)
        self.batch_size: int = losses.cases(self.outputs)
        self._widest: Any = _of_state(*self._at.trained)
        self.loss_inputs = self._narrowed(losses.flat(self.outputs))
        self.targets = self._narrowed(losses.targets(targets, self.outputs))
        self.masks = self._narrowed(losses.weights(weights, self.outputs))
        self.layer_inputs = self._placed(self._at.records, of_inputs=True)
        self.row_counts = self._row_counts()

    def output_gradients(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        """Return gradients for the outputs of the layers; see `Linearization`."""
        _, outputs = self._pulled(vectors)
        return self._placed(outputs, of_inputs=False)

    def param_gradients(
        self, vectors: Mapping[str, Any], names: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Return gradients for the parameters; see `Linearization`."""
        # All of them: a compiler drops those that nobody takes.
        trained, _ = self._pulled(vectors)
        captured = self._captured
        by_index = dict(zip(captured.leaves.trained, trained, strict=True))
        at = dict(enumerate(jax.tree.leaves(self._params)))
        for chart in captured.charts:
            by_index[chart.direction] = chart.gradient(at, by_index)
        return captured.named_leaves(by_index)

    def push_forward(self, tangents: Mapping[str, Any]) -> dict[str, Any]:
        """Return the change of the loss inputs; see `Linearization`."""
        changes = self._captured.stepped(tangents, self._params)
        trained = [
            differing(changes[i].astype(leaf.dtype))
            if i in changes
            else jnp.zeros_like(leaf)
            for i, leaf in zip(
                self._captured.leaves.trained, self._at.trained, strict=True
            )
        ]
        function = self._captured.function
        _, outputs = jax.jvp(
            lambda trained: function(self._at.whole(trained), *self._inputs),
            (self._at.trained,),
            (trained,),
        )
        changed: dict[str, Any] = self._narrowed(self._captured.losses.flat(outputs))
        return changed

    def _pulled(self, vectors: Mapping[str, Any]) -> Any:
        return self._at.pull(self._captured.losses.like_outputs(vectors, self.outputs))

    def _narrowed(self, tree: Any) -> Any:
        """Return arrays in the precision of what is kept, if theirs is higher."""
        return jax.tree.map(lambda array: _no_wider(array, self._widest), tree)

    def _placed(self, arrays: Mapping[str, Any], of_inputs: bool) -> dict[str, Any]:
        placed = {}
        leaves = jax.tree.leaves(self._params)
        for layer in self._captured.layers:
            dtype = _of_state(leaves[layer.params[0].leaf])
            for site in layer.sites:
                if of_inputs and not site.takes_inputs:
                    continue
                own = site.with_uses(self._uses)
                make = own.inputs if of_inputs else own.gradients
                placed[site.name] = _no_wider(make(arrays, self._cases), dtype)
        return placed

    def _row_counts(self) -> dict[str, Any]:
        """Return how much rows count, for each site where it is not as their cases do.

        Raises:
            ArgumentError: If it was not tried to which case a row belongs.
        """
        sites = [
            site.with_uses(self._uses)
            for layer in self._captured.layers
            for site in layer.sites
        ]
        counts = {
            site.name: site.row_counts(self._at.records, self._cases) for site in sites
        }
        weights: Any = None
        if self.targets or self.masks:
            weights = case_weights(losses_at(self._captured.collection, self), self)
        for site in () if weights is None else sites:
            own = site.counts(weights[0], self._cases)
            of_data = counts[site.name]
            if own is not None:
                counts[site.name] = own if of_data is None else own * of_data
        return {name: own for name, own in counts.items() if own is not None}

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


def _of_state(*params: Any) -> Any:
    """Return the dtype of what is kept of parameters: at least single precision."""
    return jnp.promote_types(jnp.result_type(*params), jnp.float32)


def _no_wider(array: Any, dtype: Any) -> Any:
    """Return data in the precision of what is kept, if theirs is higher."""
    is_wider = jnp.issubdtype(array.dtype, jnp.floating) and (
        jnp.finfo(array.dtype).bits > jnp.finfo(dtype).bits
    )
    return array.astype(dtype) if is_wider else array
