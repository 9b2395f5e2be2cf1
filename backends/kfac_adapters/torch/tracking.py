"""`Tracker`: statistics of a model from the user's own forward and backward passes.

Hooks on the model record a forward pass. A hook on its outputs runs when the user's
backward pass reaches them, and sees the gradient of the user's loss there: which rows
are ignored, and, where that is asked for, which loss it is. Then the estimator pulls
its own vectors back through the same graph, which the user's pass frees afterwards.
"""

import weakref
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from kfac_adapters.torch.capture import Capture, check_not_compiled
from kfac_adapters.torch.linearized import rows_of
from kfac_adapters.torch.losses import GivenLoss, Reduction, recognised, targets_of
from kfac_adapters.torch.recording import Record, Recorder, is_recording
from kfac_adapters.torch.scaled import Scaled
from kfac_core import tree
from kfac_core.errors import (
    ArgumentError,
    NotComputedError,
    StateError,
    UnsupportedError,
)
from kfac_core.estimator import EstimatorState, FisherEstimator

Mode = Literal["gradients", "empirical"]
"""Estimation modes: of targets drawn from the model, or of those of the data."""


MOST_PENDING = 8
"""How many passes of one step may wait for their gradients.

A loss may be of several; but evaluation that does not switch gradients off has passes
that none comes for, whose graphs are kept until the next step.
"""


class _Pending(NamedTuple):
    """A forward pass that no backward pass has reached."""

    record: Record
    outputs: torch.Tensor
    edge: GradientEdge


class Tracker:
    """Keeps the statistics of a model up to date, beside its training.

    Args:
        capture: The model.
        loss: What goes on top; None: told by the first gradient.
        reduction: Reduction of the user's loss.
        mode: What is pulled back.
        decay: What the weights of earlier steps are multiplied by.
        cov_every: Every how many steps there are statistics.
        seed: Seed of the numbers that targets are drawn with.
    """

    def __init__(
        self,
        capture: Capture,
        loss: GivenLoss | None,
        reduction: Reduction,
        mode: Mode,
        decay: float,
        cov_every: int,
        seed: int,
    ) -> None:
        modes: tuple[object, ...] = ("gradients", "empirical")
        if mode not in modes:
            msg = f"mode is {mode!r}, expected 'gradients' or 'empirical'"
            raise ArgumentError(msg)
        self.capture, self._loss, self._reduction = capture, loss, reduction
        self._mode, self._decay, self._cov_every = mode, decay, cov_every
        self._seed = seed
        self._generator: torch.Generator | None = None
        self.steps, self._passes = 0, 0
        self._recorder: Recorder | None = None
        self._pending: dict[int, _Pending] = {}
        self._token, self.paused = 0, 0
        self._inverted_at: int | None = None
        self._estimator: FisherEstimator | None = None
        self._state: EstimatorState | None = None
        self._restored: list[torch.Tensor] | None = None
        self._saved_key: torch.Tensor | None = None
        model = capture.model
        self._handles = (
            model.register_forward_pre_hook(_Hook("enter", self)),
            model.register_forward_hook(_Hook("leave", self), always_call=True),
        )

    @property
    def estimator(self) -> FisherEstimator:
        """The estimator, from the first backward pass on.

        Raises:
            NotComputedError: Before it.
        """
        if self._estimator is None:
            msg = (
                "there are no statistics: no backward pass through the model's outputs"
                " was seen; call the model itself, with gradients, and then backward()"
            )
            raise NotComputedError(msg)
        return self._estimator

    @property
    def state(self) -> EstimatorState:
        """The statistics and inverses.

        Raises:
            NotComputedError: Before the first backward pass.
        """
        self.estimator  # noqa: B018  (it raises)
        assert self._state is not None
        return self._state

    @state.setter
    def state(self, state: EstimatorState) -> None:
        self._state = state

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes: tensors, numbers and lists, nothing else."""
        key = None if self._generator is None else self._generator.get_state()
        arrays = None if self._state is None else tree.leaves(self._state)
        if arrays is None:
            arrays = self._restored
        return {
            "steps": self.steps,
            "generator": key,
            "arrays": arrays,
            "inverted_at": self._inverted_at,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned, perhaps before the first pass.

        Raises:
            StateError: If it is of a model with other layers.
        """
        self.steps, self._passes = saved["steps"], 0
        self._inverted_at = saved["inverted_at"]
        if saved["generator"] is not None:
            self._saved_key = saved["generator"].cpu()
            self._generator = None
        self._restored = saved["arrays"]
        if self._state is not None:
            self._restore()

    def next_step(self) -> None:
        """Begin the next step: passes that come are no longer of this one."""
        self.steps, self._passes = self.steps + 1, 0
        self._pending.clear()

    def is_due(self, every: int) -> bool:
        """Return whether inverses are due at this step, of each so many one."""
        if self._inverted_at is None or self.steps - self._inverted_at >= every:
            self._inverted_at = self.steps
            return True
        return False

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._pending.clear()

    def enter(self, _: object = None) -> None:
        """Record what the model computes from here."""
        due = self.steps % self._cov_every == 0 or self._estimator is None
        if self._recorder is None and due and not self.paused and is_recording():
            check_not_compiled(self.capture.model)
            self._recorder = Recorder(self.capture.params)
            self._recorder.__enter__()

    def leave(self, result: Any) -> None:
        """Stop that, and wait for the gradient for what the model returned."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        recorder.__exit__(None, None, None)
        if result is None:  # it was left by an error
            return
        outputs = self.capture.outputs_of(result)
        if not outputs.requires_grad:
            return
        self._token += 1
        edge = get_gradient_edge(outputs)
        self._pending[self._token] = _Pending(recorder.record, outputs.detach(), edge)
        while len(self._pending) > MOST_PENDING:
            del self._pending[min(self._pending)]
        own, token = weakref.ref(self), self._token

        def reached(gradient: torch.Tensor) -> None:
            tracker = own()
            pending = None if tracker is None else tracker._pending.pop(token, None)
            if tracker is not None and pending is not None:
                tracker.update(pending, gradient)

        outputs.register_hook(reached)

    def update(self, pending: _Pending, gradient: torch.Tensor) -> None:
        """Fold a pass into the statistics.

        Args:
            pending: The pass.
            gradient: Gradient of the user's loss for its outputs.
        """
        axis = self.capture.class_axis
        rows = rows_of(pending.outputs, axis)
        at_rows = rows_of(gradient, axis)
        if self._loss is None:
            self._loss = recognised(rows, at_rows, self._reduction)
        self.capture.loss = self._loss.function
        counting = (at_rows != 0).any(-1)
        scale = self._loss.scale(
            rows.float() if rows.dtype.itemsize < 4 else rows, counting
        )
        targets = None
        if self._mode == "empirical":
            targets = targets_of(self._loss, rows, at_rows, scale)
        given = self.capture.linearized(
            pending.record,
            pending.outputs,
            pending.edge,
            targets,
            None if bool(counting.all()) else counting,
        )
        if self._estimator is None:
            self._make()
            if self.steps % self._cov_every:
                return  # it was for the restored statistics to have a place
        key = None
        if self._mode == "gradients":
            if self._generator is None:
                self._generator = torch.Generator(rows.device).manual_seed(self._seed)
                if self._saved_key is not None:
                    self._generator.set_state(self._saved_key)
            key = self._generator
        # Passes of one step are one batch in parts.
        decay = self._decay if self._passes == 0 else 1.0
        self._passes += 1
        self.state = self.estimator.update_covs(
            self.state, Scaled(given, scale), decay, key=key
        )

    def _make(self) -> None:
        joint = self.capture.joint
        if self._mode == "empirical" and joint:
            msg = (
                f"mode is 'empirical', but the layers of {list(joint)} have rows that"
                " are of several cases together, of which there is no gradient of each;"
                " take the mode 'gradients'"
            )
            raise UnsupportedError(msg)
        params = self.capture.params
        collection = self.capture.collection
        self._estimator = FisherEstimator(collection, self._mode)
        own = {name: params[name].detach() for name, _ in collection.variables}
        self._state = self._estimator.init(own)
        self._restore()

    def _restore(self) -> None:
        """Put saved arrays in the place of those of the state."""
        saved, self._restored = self._restored, None
        if saved is None or self._state is None:
            return
        places = tree.leaves(self._state)
        if len(saved) != len(places):
            msg = (
                f"the saved state has {len(saved)} arrays, expected {len(places)}: it"
                " is of a model with other layers, or of other options"
            )
            raise StateError(msg)
        # Shapes are not compared: low-rank forms have none of their own at first.
        rest = iter(saved)
        self._state = tree.map(lambda like: next(rest).to(like.device), self._state)


class _Hook:
    """A hook on a model that keeps no tracker alive, and is of no use in a copy.

    Args:
        method: Name of the tracker's method to call.
        tracker: The tracker; None: there is none any more.
    """

    def __init__(self, method: str, tracker: "Tracker | None" = None) -> None:
        self._method = method
        self._own = None if tracker is None else weakref.ref(tracker)

    def __call__(self, module: Any, args: Any, result: Any = None) -> None:
        """Tell the tracker, if there is one."""
        tracker = None if self._own is None else self._own()
        if tracker is not None:
            getattr(tracker, self._method)(result)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes a copy, as of a model that is saved or averaged."""
        return _Hook, (self._method,)
