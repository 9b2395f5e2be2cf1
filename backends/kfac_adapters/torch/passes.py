"""`Passes`: a model's forward passes, and what the user's backward pass brings them.

Hooks on the model record a forward pass. A hook on its outputs runs when the user's
backward pass reaches them, and sees the gradient of the user's loss there.
"""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from kfac_adapters.torch.capture import Capture
from kfac_adapters.torch.leaving_out import leaves_out
from kfac_adapters.torch.record import Record
from kfac_adapters.torch.recording import Recorder, is_recording
from kfac_adapters.torch.visible import check_visible

MOST_PENDING = 8
"""How many passes of one step may wait for their gradients.

A loss may be of several; but evaluation that does not switch gradients off has passes
that none comes for, whose graphs are kept until the next step.
"""


@dataclass(frozen=True)
class Call:
    """What a model was called with, to be called so again.

    Attributes:
        args: Its arguments.
        kwargs: Those by name.
        random: State of the generator of the processor, before the call.
        of_device: That of the accelerator, where there is one.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    random: torch.Tensor
    of_device: torch.Tensor | None


@dataclass(frozen=True)
class Pass:
    """A forward pass.

    Attributes:
        record: What it did with which parameter.
        outputs: What goes into the loss, without a graph.
        edge: Where its graph ends.
        call: How to do it again; None where nobody will.
    """

    record: Record
    outputs: torch.Tensor
    edge: GradientEdge
    call: Call | None


class Listener(Protocol):
    """Who wants to know of passes."""

    def wants_pass(self) -> bool:
        """Return whether the pass that begins is wanted."""

    def reached(self, seen: Pass, gradient: torch.Tensor) -> None:
        """Take a pass, now that there is a gradient for its outputs."""


class Passes:
    """Tells a listener of each pass that a backward pass has reached.

    It keeps no listener alive.

    Args:
        capture: The model.
        listener: Who is told.
        keeps_calls: Whether passes are to be done again.
    """

    def __init__(self, capture: Capture, listener: Listener, keeps_calls: bool) -> None:
        self._capture, self._listener = capture, weakref.ref(listener)
        self._keeps_calls = keeps_calls
        self._call: Call | None = None
        self._recorder: Recorder | None = None
        self._pending: dict[int, Pass] = {}
        self._token, self._paused = 0, 0
        model = capture.model
        self._handles = (
            model.register_forward_pre_hook(_Hook("enter", self), with_kwargs=True),
            model.register_forward_hook(_Hook("leave", self), always_call=True),
        )

    @property
    def waiting(self) -> int:
        """How many passes no backward pass has reached."""
        return len(self._pending)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See no pass within."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def clear(self) -> None:
        """Let go of passes that no backward pass has reached."""
        self._pending.clear()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._pending.clear()

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> None:
        """Record what the model computes from here."""
        listener = self._listener()
        if self._recorder is not None or self._paused or not is_recording():
            return
        if listener is None or not listener.wants_pass():
            return
        check_visible(self._capture.model)
        if self._keeps_calls:
            on_device = torch.cuda.is_available() and torch.cuda.is_initialized()
            of_device = torch.cuda.get_rng_state() if on_device else None
            self._call = Call(args, kwargs, torch.get_rng_state(), of_device)
        self._recorder = Recorder(self._capture.params)
        self._recorder.__enter__()

    def leave(self, _: Any, result: Any) -> None:
        """Stop that, and wait for the gradient for what the model returned."""
        recorder, self._recorder = self._recorder, None
        call, self._call = self._call, None
        if recorder is None:
            return
        recorder.__exit__(None, None, None)
        if result is None:  # it was left by an error
            return
        outputs = self._capture.outputs_of(result)
        if not outputs.requires_grad:
            return
        self._token += 1
        edge = get_gradient_edge(outputs)
        self._pending[self._token] = Pass(recorder.record, outputs.detach(), edge, call)
        while len(self._pending) > MOST_PENDING:
            del self._pending[min(self._pending)]
        own, token = weakref.ref(self), self._token

        def reached(gradient: torch.Tensor) -> None:
            passes = own()
            seen = None if passes is None else passes._pending.get(token)
            if passes is None or seen is None or leaves_out(seen.record, seen.edge):
                return  # perhaps the next one is that of the loss
            del passes._pending[token]
            listener = passes._listener()
            if listener is not None:
                listener.reached(seen, gradient.detach())

        outputs.register_hook(reached)
        recorder.record.hearers.add(outputs)


class _Hook:
    """A hook on a model that keeps no passes alive, and is of no use in a copy.

    Args:
        method: Name of the method to call.
        passes: Whose method; None: there is nobody any more.
    """

    def __init__(self, method: str, passes: Passes | None = None) -> None:
        self._method = method
        self._own = None if passes is None else weakref.ref(passes)

    def __call__(self, module: Any, args: Any, result: Any = None) -> None:
        """Tell of the call, or of its result, if there is somebody."""
        passes = None if self._own is None else self._own()
        if passes is not None:
            getattr(passes, self._method)(args, result)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes a copy, as of a model that is saved or averaged."""
        return _Hook, (self._method,)
