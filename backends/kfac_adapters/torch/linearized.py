"""`Linearized`: one forward pass of a model, as the estimator takes it."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from kfac_adapters.torch.groups import Group, regrouped
from kfac_adapters.torch.loss_rows import cases_of, like_outputs, rows_of
from kfac_adapters.torch.orders import leading
from kfac_adapters.torch.reaching import Reached, reaches_one
from kfac_adapters.torch.record import Record, Use
from kfac_adapters.torch.registering import LOSS
from kfac_adapters.torch.rows import Folding, fold, foldings
from kfac_core.errors import ShapeError, UnsupportedError
from kfac_core.linearization import NamedLossInputs, NamedParams
from kfac_core.typing import Array


class Linearized:
    """A `kfac_core.Linearization` of a forward pass that was recorded.

    It keeps the graph of that pass, as long as it is kept itself.

    Args:
        params: The parameters that the layers cover, by name.
        groups: The layers.
        record: What the pass did.
        outputs: What the model returned, without a graph.
        edge: Where its graph ends.
        class_axis: The axis of the outputs that a row of the loss is along.
        targets: Targets of the loss, of the shape of the outputs without that axis, or
            of the outputs; None: there are none.
        mask: Weights of the rows, ``[cases]``; None: one each.
        scale: What the mean loss is multiplied by, 0-d; None: one. Whatever is pulled
            back has the root of it, as it has that of a coefficient.
        summed: Names of parameters whose blocks take their summed gradients, which come
            out of the backward pass that gives those for outputs.
        blank: For each site what `blank` returned, for layers that are not used.
    """

    def __init__(
        self,
        params: Mapping[str, torch.Tensor],
        groups: Sequence[Group],
        record: Record,
        outputs: torch.Tensor,
        edge: GradientEdge,
        class_axis: int = -1,
        targets: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
        summed: Sequence[str] = (),
        blank: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        self.root: torch.Tensor | float = 1.0 if scale is None else scale.sqrt()
        self._summed = tuple(summed)
        self._known_rows: dict[str, tuple[int, ...]] = {}
        self._known_hows: dict[tuple[str, ...], list[Folding]] = {}
        self._found: tuple[Any, dict[str, torch.Tensor]] = (None, {})
        self._params, self._record, self._edge = params, record, edge
        self._groups, self._axis = regrouped(groups, record), class_axis
        self._like = outputs
        rows = rows_of(outputs, class_axis)
        self.batch_size = rows.shape[0]
        self._cases = cases_of(outputs, class_axis)
        self.loss_inputs: Mapping[str, Any] = {LOSS: _at_least_single(rows)}
        self.targets: Mapping[str, Any] = {}
        if targets is not None:
            if targets.shape == outputs.shape:
                targets = rows_of(targets, class_axis)
            elif targets.shape != rows.shape:
                targets = targets.reshape(-1)
            self.targets = {LOSS: targets}
        self.masks: dict[str, Any] = {} if mask is None else {LOSS: mask}
        self._ignoring = mask is not None and bool((mask == 0).any())
        self._reached = Reached()
        self.masks |= self._padding()
        self._blank = blank or {}
        for group in self._groups:
            if not self._having_rows(group):
                (site, *_) = group.sites
                self.masks[site] = outputs.new_zeros(1, dtype=torch.float32)

    @cached_property
    def layer_inputs(self) -> Mapping[str, Array]:
        """For each site its inputs, ``[cases, ...]`` or ``[cases, uses, ...]``."""
        inputs = [use.call.inputs for use in self._record.uses]
        found: dict[str, Array] = {}
        for group in self._groups:
            if group.kind != "bias":
                found |= self._at_sites(group, inputs)
        return found

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Pull vectors back to the outputs of the layers, in one backward pass."""
        edges = [edge for _, edge in self.edges]
        params = [self._params[name] for name in self._summed]
        pulled = self._pulled(vectors, [*edges, *params])
        self._found = vectors, self._named(self._summed, pulled[len(edges) :])
        at_uses = pulled[: len(edges)]
        return self.at_outputs(
            {i: g for (i, _), g in zip(self.edges, at_uses, strict=True)}
        )

    def param_gradients(
        self, vectors: NamedLossInputs, names: Collection[str] | None = None
    ) -> NamedParams:
        """Return ``J' v`` for parameters: in one backward pass, or in the last."""
        wanted = tuple(self._params) if names is None else tuple(names)
        pulled, known = self._found
        if pulled is vectors and known.keys() >= set(wanted):
            return {name: known[name] for name in wanted}
        leaves = [self._params[name] for name in wanted]
        return self._named(wanted, self._pulled(vectors, leaves))

    @cached_property
    def edges(self) -> list[tuple[int, GradientEdge]]:
        """Where the gradients for the outputs of the layers are, by use."""
        indices = sorted({i for group in self._groups for i in group.indices})
        return [(i, self._record.uses[i].edge) for i in indices]

    def at_outputs(
        self, gradients: Mapping[int, torch.Tensor | None]
    ) -> dict[str, Array]:
        """Return gradients for the outputs of uses as the blocks take them, by site."""
        of_all = [gradients.get(i) for i in range(len(self._record.uses))]
        found: dict[str, Array] = {}
        for group in self._groups:
            own = self._at_sites(group, of_all, of_outputs=True)
            if self._ignoring and not reaches_one(group.orders):
                self._reached.add(own, shared=group.shared)
            found |= own
        return found

    @property
    def row_counts(self) -> Mapping[str, Array]:
        """For sites whose rows reach losses of other cases how much each row counts.

        A prompt, whose own loss is ignored, reaches that of the answer: what is pulled
        back shows it.
        """
        return self._reached.counts(self.masks[LOSS]) if self._ignoring else {}

    def blank(self) -> dict[str, tuple[Any, Any]]:
        """Return inputs and gradients of one row of zeros, by site.

        They are those of a layer that a later pass does not use, with weight zero.
        """
        inputs, gradients = self.layer_inputs, self.at_outputs({})
        shared = {site: group.shared for group in self._groups for site in group.sites}

        def row(x: Any, site: str) -> Any:
            return (
                None
                if x is None
                else torch.zeros_like(x[:1, :1] if shared[site] else x[:1])
            )

        return {
            site: (row(inputs.get(site), site), row(gradients[site], site))
            for site in shared
        }

    def _named(
        self, names: Sequence[str], gradients: Sequence[torch.Tensor | None]
    ) -> dict[str, torch.Tensor]:
        return {
            name: torch.zeros_like(self._params[name]) if g is None else g
            for name, g in zip(names, gradients, strict=True)
        }

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Refuse: a recorded pass has no forward derivative.

        Raises:
            UnsupportedError: Always.
        """
        msg = (
            "Linearized: a recorded forward pass has no push_forward, which"
            f" momentum_type='qmodel' asks for; of the parameters {list(tangents)} use"
            " torch.func.jvp"
        )
        raise UnsupportedError(msg)

    def _pulled(
        self, vectors: NamedLossInputs, leaves: Sequence[Any]
    ) -> Sequence[torch.Tensor | None]:
        vector: Any = vectors[LOSS]
        vector = vector * self.root
        at_outputs = like_outputs(vector.to(self._like.dtype), self._like, self._axis)
        params = self._params.values()
        return self._record.hearers.pulled(self._edge, at_outputs, leaves, params)

    def _padding(self) -> dict[str, Array]:
        """Return which rows of tied embeddings are no padding, by their sites."""
        inputs = [use.call.inputs for use in self._record.uses]
        masks: dict[str, Array] = {}
        for group in self._groups:
            if group.kind != "tied_weights":
                continue
            uses = [self._record.uses[i] for i in group.indices]
            paddings = [use.call.options.get("padding_id") for use in uses]
            if any(padding is not None for padding in paddings):
                ids = self._at_sites(group, inputs)
                masks |= {
                    site: ids[site] != padding
                    for site, padding in zip(group.sites, paddings, strict=True)
                    if padding is not None
                }
        return masks

    def _at_sites(
        self, group: Group, arrays: Sequence[Any], *, of_outputs: bool = False
    ) -> dict[str, Array]:
        """Return the arrays of a group's uses at its sites, as its block takes them."""
        if not group.indices:
            return {site: self._blank[site][of_outputs] for site in group.sites}
        indices = group.indices
        if not group.is_apart:
            indices = self._having_rows(group) or indices[:1]
        uses = [self._record.uses[i] for i in indices]
        hows = self._hows(group, uses)
        parts = [
            self._folded(group, use, arrays[i], how, of_outputs)
            for i, use, how in zip(indices, uses, hows, strict=True)
        ]
        if group.is_apart:
            return dict(zip(group.sites, parts, strict=True))
        (site,) = group.sites
        if len(parts) == 1:
            return {site: parts[0]}
        if len({part.shape[:1] + part.shape[2:] for part in parts}) > 1:
            shapes = [tuple(part.shape) for part in parts]
            msg = (
                f"{site}: the uses of this batch have shapes {shapes}, [cases, uses,"
                " ...], expected shapes that differ in the uses alone"
            )
            raise ShapeError(msg)
        return {site: torch.cat(parts, dim=1)}

    def _hows(self, group: Group, uses: Sequence[Use]) -> list[Folding]:
        """Return how the arrays of some uses of a group are folded."""
        known = self._known_hows.get(group.sites)
        if known is None:
            own = [leading(use, group.kind == "bias") for use in uses]
            known = foldings(own, self._cases, group.orders)
            self._known_hows[group.sites] = known
        return known

    def _having_rows(self, group: Group) -> tuple[int, ...]:
        """Return the uses that have a row, as that of an expert may not."""
        name = group.params[0]
        if name not in self._known_rows:
            uses = self._record.uses
            self._known_rows[name] = tuple(
                i
                for i in group.indices
                if math.prod(leading(uses[i], group.kind == "bias"))
            )
        return self._known_rows[name]

    def _folded(
        self, group: Group, use: Use, x: Any, how: Folding, of_outputs: bool
    ) -> torch.Tensor:
        if how.uses > 1 and not group.shared:
            rows = list(leading(use, group.kind == "bias"))
            msg = (
                f"{group.params[0]}: this batch has rows {rows} for {self.batch_size}"
                " cases, expected one for each, as in the first batch; capture the"
                " model again with such a batch"
            )
            raise ShapeError(msg)
        axes = use.call.axes
        if of_outputs:
            # Outputs of ids have features; those of a scale of one number have none.
            axes = axes if use.call.kind == "scale" else max(axes, 1)
            if x is None:  # nothing of it reaches the loss
                like = self.loss_inputs[LOSS]
                x = torch.zeros(use.shape, dtype=like.dtype, device=like.device)
            x = x.reshape(use.shape)
        if of_outputs:
            of_bias = group.kind == "bias"
            x = use.call.pulls_bias(x) if of_bias else use.call.pulls(x)
            axes = use.bias_axes if of_bias else axes
        if x.ndim == axes:
            x = x[None]
        if not x.numel():  # one row of zeros, with weight zero
            own = x.shape[x.ndim - axes :]
            x, how = x.new_zeros(1, *own), Folding(1, 1, 1)
        return fold(_at_least_single(x), axes, how, uses=group.shared)


def _at_least_single(x: torch.Tensor) -> torch.Tensor:
    """Return numbers of at least 32 bits: layers of an autocast model differ."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if half else x
