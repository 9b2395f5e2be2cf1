"""`capture`: an unmodified model as a collection of layers, and its passes as data."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from kfac_adapters.coverage import (
    POLICIES,
    Coverage,
    Policy,
    check_all_covered,
    check_policy,
    given_approximations,
)
from kfac_adapters.torch.checking import incomplete
from kfac_adapters.torch.groups import Group, Grouping, grouped
from kfac_adapters.torch.linearized import Linearized, rows_of
from kfac_adapters.torch.losses import given_loss
from kfac_adapters.torch.made import Made, unmade, with_made
from kfac_adapters.torch.recording import Record, Recorder
from kfac_adapters.torch.registering import collection_of, coverage_of
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
        self._approx, self._output = approx, output
        self._groups: list[Group] = []
        self._left: dict[str, str] = {}
        self.made: tuple[Made, ...] = ()
        self._names: tuple[str, ...] = ()
        self._summed: tuple[str, ...] = ()
        self._blank: dict[str, tuple[Any, Any]] = {}
        self._collection: LayerCollection | None = None
        self.loss: LossFunction | None = None

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

    def learn(self, loss: LossFunction, class_axis: int) -> None:
        """Take what a gradient of the loss tells of it."""
        self.loss, self.class_axis = loss, class_axis

    @property
    def collection(self) -> LayerCollection:
        """The layers and the loss.

        Raises:
            NotComputedError: Before the first pass, which they are made of.
        """
        if self._collection is None:
            msg = (
                "Capture: there is no collection before the first forward pass, which"
                " says what the layers are; linearize a batch first"
            )
            raise NotComputedError(msg)
        return self._collection

    @property
    def coverage(self) -> Coverage:
        """Which block stands for which parameter; `print` it.

        Raises:
            NotComputedError: Before the first pass.
        """
        given = {name: tuple(p.shape) for name, p in self.params.items()}
        return coverage_of(
            self.collection, given, self._left, self.made, POLICIES[self.policy]
        )

    @property
    def left(self) -> Mapping[str, str]:
        """For each parameter that no layer covers, why."""
        return self._left

    @property
    def joint(self) -> tuple[str, ...]:
        """Names of weights whose layers have rows of several cases together.

        Such as an embedding of positions, computed once for a batch. Their statistics
        are right for gradients of mean zero alone: those of the modes that draw random
        numbers.
        """
        return tuple(group.params[0] for group in self._groups if group.joint)

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
        if self._collection is not None and tuple(self.params) != self._names:
            changed = sorted(set(self.params).symmetric_difference(self._names))
            msg = (
                f"Capture: {changed} are not trained as at the first pass; capture the"
                " model again after freezing or thawing parameters"
            )
            raise ArgumentError(msg)
        with torch.enable_grad(), self.recording() as record:
            result = self.model(*args, **kwargs)
        outputs = self.outputs_of(result)
        edge = get_gradient_edge(outputs)
        return self.linearized(record, outputs.detach(), edge, targets, mask)

    def outputs_of(self, result: Any) -> torch.Tensor:
        """Return what goes into the loss, of what the model returned.

        Raises:
            ArgumentError: If it is no tensor.
        """
        if self._output is not None:
            result = self._output(result)
        elif not isinstance(result, torch.Tensor):
            result = getattr(result, "logits", result)
        if not isinstance(result, torch.Tensor):
            msg = (
                f"the model returns a {type(result).__name__}, expected a tensor, or"
                " something with .logits; give output=, a function that takes what goes"
                " into the loss out of it"
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
        params = self.params
        is_new = self._collection is None or tuple(params) != self._names
        if is_new:
            self._build(params, record, outputs, edge)
            self._blank = {}
        own = with_made(self.made, params)
        given = Linearized(
            {name: own[name] for name, _ in self.collection.variables},
            self._groups,
            record,
            outputs,
            edge,
            self.class_axis,
            targets,
            mask,
            scale,
            self._summed,
            self._blank,
        )
        if is_new:
            self._blank = given.blank()
        return given

    def _build(
        self,
        params: Mapping[str, torch.Tensor],
        record: Record,
        outputs: torch.Tensor,
        edge: GradientEdge,
    ) -> None:
        cases = rows_of(outputs, self.class_axis).shape[0]
        own, found = _layers(params, record, cases)
        if self.policy == "error":
            remedy = ", or freeze them with requires_grad_(False)"
            check_all_covered(found.left, remedy)
        claimed = [name for group in found.groups for name in group.params]
        unseen = incomplete(params, claimed, found.parts, record, outputs, edge)
        for name in unseen:
            record.elsewhere[name] = "something that is not seen"
        own, found = _layers(params, record, cases)
        left = found.left
        if self.policy == "error":
            check_all_covered(left)
        diagonal = list(left) if self.policy == "diagonal" else []
        covered = {n: p for n, p in own.items() if n not in left or n in diagonal}
        if self.loss is None:
            msg = "Capture: loss is 'auto', which a recorded pass alone does not tell"
            raise ArgumentError(msg)
        collection = collection_of(
            covered, record, found, diagonal, self.loss, self._approx
        )
        self._groups, self._left, self._names = found.groups, left, tuple(params)
        self.made = tuple(record.made.values())
        self._collection = collection
        self._summed = tuple(
            name
            for layer in collection.layers
            if not layer.towers
            for name in layer.params
        )


def _layers(
    params: Mapping[str, torch.Tensor], record: Record, cases: int
) -> tuple[dict[str, torch.Tensor], Grouping]:
    """Return what layers may have as parameters, and the layers."""
    while True:
        own = with_made(record.made.values(), params)
        found = grouped(own, record, cases)
        if not unmade(record, found.left):
            return own, found


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
            ``[batch, classes, height, width]``. All others are those of cases. None:
            the last one, or what the gradient of a cross-entropy tells in training.
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
