"""`capture`: an unmodified model as a collection of layers, and its passes as data."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from kfac_adapters.coverage import (
    POLICIES,
    Coverage,
    Policy,
    check_policy,
    given_approximations,
)
from kfac_adapters.torch.blanks import blank_of, shapes_of
from kfac_adapters.torch.building import table_of
from kfac_adapters.torch.class_axis import default_axis
from kfac_adapters.torch.linearized import Linearized
from kfac_adapters.torch.losses import given_loss
from kfac_adapters.torch.made import MadeWeight, with_made
from kfac_adapters.torch.record import Record
from kfac_adapters.torch.recording import Recorder
from kfac_adapters.torch.registering import coverage_of
from kfac_adapters.torch.tables import Table, joined
from kfac_adapters.torch.visible import check_visible
from kfac_core.errors import ArgumentError, NotComputedError
from kfac_core.layer_collection import LayerCollection
from kfac_core.loss_functions import LossFunction


class Capture:
    """A model whose forward passes become linearizations; made by `capture`."""

    def __init__(
        self,
        model: torch.nn.Module,
        unclaimed: Policy,
        approx: Mapping[str, str] | str,
        class_axis: int | None,
        output: Callable[[Any], torch.Tensor] | None,
    ) -> None:
        self.model, self.policy = model, unclaimed
        self.given_axis = class_axis
        self.class_axis = -1 if class_axis is None else class_axis
        self._approx, self.output = approx, output
        self.table: Table | None = None
        self.blank: dict[str, tuple[Any, Any]] = {}
        self.loss: LossFunction | None = None
        self.waits, self.kinds = False, dict[str, str]()

    @property
    def params(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that are trained, by name, each once."""
        named = self.model.named_parameters()
        return {name: param for name, param in named if param.requires_grad}

    @property
    def variables(self) -> dict[str, torch.Tensor]:
        """What the layers have as parameters, without a graph, by name.

        They are parameters, and weights that the model makes of several.
        """
        own = with_made(self.made, self.params)
        return {name: own[name].detach() for name, _ in self.collection.variables}

    @property
    def made(self) -> tuple[MadeWeight, ...]:
        """The weights that the model makes of several."""
        return () if self.table is None else self.table.made

    def joined(self, tables: Mapping[str, Table], waits: bool = False) -> Table:
        """Return the layers that several passes tell; see `tables.joined`."""
        return joined(tables, self.policy, self.params, waits, self.kinds)

    def adopt(self, table: Table) -> None:
        """Take the layers that the passes of several ranks tell."""
        (loss,) = table.collection.losses
        self.table, self.loss = table, loss.loss
        self.blank = blank_of(table.blank, next(iter(self.params.values())).device)

    def learn(self, loss: LossFunction, class_axis: int) -> None:
        """Take what a gradient of the loss tells of it."""
        self.loss, self.class_axis = loss, class_axis

    @property
    def collection(self) -> LayerCollection:
        """The layers and the loss.

        Raises:
            NotComputedError: Before the first pass, which they are made of.
        """
        if self.table is None:
            msg = (
                "Capture: there is no collection before the first forward pass, which"
                " says what the layers are; linearize a batch first"
            )
            raise NotComputedError(msg)
        return self.table.collection

    @property
    def coverage(self) -> Coverage:
        """Which block stands for which parameter; `print` it.

        Raises:
            NotComputedError: Before the first pass.
        """
        given = {name: tuple(p.shape) for name, p in self.params.items()}
        return coverage_of(
            self.collection, given, self.left, self.made, POLICIES[self.policy]
        )

    @property
    def left(self) -> Mapping[str, str]:
        """For each parameter that no layer covers, why."""
        return {} if self.table is None else self.table.left

    @property
    def joint(self) -> tuple[str, ...]:
        """Names of weights whose layers have rows of several cases together.

        Such as an embedding of positions, computed once for a batch. Their statistics
        are right for gradients of mean zero alone: those of the modes that draw random
        numbers.
        """
        groups = () if self.table is None else self.table.groups
        return tuple(group.params[0] for group in groups if group.joint)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        """Record what is computed within: one forward pass of the model."""
        check_visible(self.model)
        recorder = Recorder(self.params)
        with recorder:
            yield recorder.record

    def linearize(
        self,
        *args: Any,
        targets: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Linearized:
        """Return the model at its parameters and a batch.

        Args:
            *args: What the model is called with.
            targets: Targets of the loss, for the mode ``"empirical"``.
            mask: Weights of the cases, ``[cases]``; None: one each.
            **kwargs: What the model is called with, too.

        Returns:
            The linearization; it keeps the graph of the pass.

        Raises:
            ArgumentError: If other parameters are trained than at the first pass.
            RegistrationError: If no layer covers a parameter, and the policy is
                ``"error"``.
            UnsupportedError: If a module is compiled, or hidden otherwise.
        """
        names = None if self.table is None else self.table.names
        if names is not None and tuple(self.params) != names:
            changed = sorted(set(self.params).symmetric_difference(names))
            msg = (
                f"Capture: {changed} are not trained as at the first pass; capture the"
                " model again after freezing or thawing parameters"
            )
            raise ArgumentError(msg)
        with torch.enable_grad(), self.recording() as record:
            result = self.model(*args, **kwargs)
        outputs = self.outputs_of(result)
        record.hearers.add(outputs)
        if self.given_axis is None:
            self.class_axis = default_axis(outputs, self.loss)
        edge = get_gradient_edge(outputs)
        return self.linearized(record, outputs.detach(), edge, targets, mask)

    def outputs_of(self, result: Any) -> torch.Tensor:
        """Return what goes into the loss, of what the model returned.

        Raises:
            ArgumentError: If it is no tensor.
        """
        if self.output is not None:
            result = self.output(result)
        elif not isinstance(result, torch.Tensor):
            result = getattr(result, "logits", result)
        if not isinstance(result, torch.Tensor):
            msg = (
                f"the model returns a {type(result).__name__}, expected a tensor, or"
                " something with .logits; give output=, a function that takes what goes"
                " into the loss out of it"
            )
            raise ArgumentError(msg)
        if result.ndim == 0:
            msg = (
                "the model returns a single number, perhaps a loss, expected what goes"
                " into it, [cases, ...]; give output=, which takes it out of a result"
            )
            raise ArgumentError(msg)
        return result

    def linearized(
        self,
        record: Record,
        outputs: torch.Tensor,
        edge: GradientEdge,
        targets: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
    ) -> Linearized:
        """Return a pass that was recorded as a linearization; see `linearize`.

        If other parameters are trained than before, the collection is made anew.

        Args:
            record: What `recording` gave.
            outputs: What goes into the loss, without a graph.
            edge: Where its graph ends.
            targets: As in `linearize`.
            mask: As in `linearize`.
            scale: What the mean loss is multiplied by, 0-d; None: one.

        Returns:
            The linearization.
        """
        known, seen = self.table, (record, outputs, edge)
        given, of_loss = self._linearized, (targets, mask, scale)
        is_new = known is None or tuple(record.params) != known.names
        if is_new or self._meets(record):
            told = self._told(*seen)
            first = given(told, {}, *seen, *of_loss)
            self.blank = first.blank()
            told = replace(told, blank=shapes_of(self.blank))
            if is_new or known is None:
                self.table = told
                return first
            passes = {"a pass": known, "the next one": told}
            self.adopt(self.joined(passes, waits=True))
        assert self.table is not None
        return given(self.table, self.blank, *seen, *of_loss)

    def _linearized(
        self, table: Table, blank: Mapping[str, Any], *given: Any
    ) -> Linearized:
        """Return a pass by the layers of a table; see `linearized` for the rest."""
        record, outputs, edge, *of_loss = given
        own, layers = with_made(table.made, record.params), table.collection.layers
        params = {name: own[name] for name, _ in table.collection.variables}
        summed = [name for x in layers if not x.towers for name in x.params]
        at: Any = record, outputs, edge, self.class_axis, *of_loss, summed, blank
        return Linearized(params, table.groups, *at)

    def _told(self, record: Record, outputs: torch.Tensor, edge: GradientEdge) -> Table:
        """Return the layers that a pass tells."""
        if self.loss is None:
            msg = "Capture: loss is 'auto', which a recorded pass alone does not tell"
            raise ArgumentError(msg)
        return table_of(
            record.params,
            record,
            outputs,
            edge,
            self.class_axis,
            self.loss,
            self._approx,
            self.policy,
            self.waits,
            self.kinds,
        )

    def _meets(self, record: Record) -> bool:
        """Return whether a pass uses parameters that none before it did."""
        table = self.table
        if table is None or table.is_whole:
            return False
        used = {name for use in record.uses for name in (use.weight, use.bias)}
        used |= {*record.elsewhere} | {x.param for x in record.parts.values()}
        used |= {name for own in record.made.values() for name in own.parts}
        return not used.isdisjoint(table.unseen)


def capture(
    model: torch.nn.Module,
    loss: LossFunction | str,
    *,
    unclaimed: Policy = "error",
    approx: Mapping[str, str] | str | None = None,
    class_axis: int | None = None,
    output: Callable[[Any], torch.Tensor] | None = None,
) -> Capture:
    """Return an unmodified model as layers, whose passes become linearizations.

    Nothing of the model is changed, and no hook is put anywhere.

    Args:
        model: The model; parameters with ``requires_grad`` are those that count.
        loss: What goes on top of its outputs: a loss of `kfac_core.losses`, or the name
            of one of `torch.nn.functional`: ``"cross_entropy"``,
            ``"binary_cross_entropy_with_logits"`` or ``"mse_loss"``.
        unclaimed: What becomes of a parameter that no layer covers: ``"error"``, a
            ``"diagonal"`` block of its summed gradient, ``"identity"`` (its gradient as
            it is) or ``"ignore"``.
        approx: One approximation for all layers that have it, such as ``"ekfac"``; or
            approximations by the kind of a layer, such as ``{"embedding":
            "kron_out_diag"}``, or by the name of a weight. See
            `kfac_core.LayerCollection`.
        class_axis: The axis of the outputs that one row of the loss is along: 1 of
            ``[batch, classes, height, width]``; others count cases. None: the last one,
            or what gradients tell; of ``[batch]`` that after it: each entry is a case.
        output: A function from what the model returns to what goes into the loss; by
            default what it returns, or its ``logits``.

    Returns:
        The capture.

    Raises:
        ArgumentError: If an argument is none of these.
        UnsupportedError: If a module is compiled, or hidden otherwise.

    Example:
        >>> import torch
        >>> import kfac_core as kc
        >>> from kfac_adapters.torch import capture
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> captured = capture(model, "cross_entropy")
        >>> linearization = captured.linearize(torch.randn(16, 4))
        >>> estimator = kc.FisherEstimator(captured.collection, "exact")
        >>> state = estimator.init(captured.variables)
        >>> state = estimator.update_covs(state, linearization, ema_decay=0.95)
        >>> print(captured.coverage)
        parameters        block                      shapes  share
        0.weight, 0.bias  FullyConnectedKFACBasicFB  8x4, 8  59.7%
        1.weight, 1.bias  FullyConnectedKFACBasicFB  3x8, 3  40.3%
        in layers: 100.0% of 67 numbers
    """
    given: object = model
    if not isinstance(given, torch.nn.Module):
        msg = f"model is a {type(given).__name__}, expected a torch.nn.Module"
        raise ArgumentError(msg)
    check_policy(unclaimed)
    known = given_loss(loss)
    check_visible(model)
    chosen = given_approximations(approx, "approx")
    made = Capture(model, unclaimed, chosen, class_axis, output)
    made.loss = None if known is None else known.function
    return made
