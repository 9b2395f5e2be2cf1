"""The user's closure at other parameters, with nothing else of the model changed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from kfac_adapters.torch.tracking import Tracker


class Again:
    """Calls a closure once more, as it was called when this was made.

    Random numbers are those of that time, and gradients, buffers and generators are as
    they were afterwards.

    Args:
        tracker: Sees nothing of it.
        closure: Returns the loss.
    """

    def __init__(self, tracker: Tracker, closure: Callable[[], Any]) -> None:
        self._tracker, self._closure = tracker, closure
        self._random = torch.get_rng_state()
        used = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._of_device = torch.cuda.get_rng_state() if used else None

    def __call__(self) -> Any:
        """Return the loss."""
        model = self._tracker.capture.model
        params = list(model.parameters())
        buffers = [(x, x.clone()) for x in model.buffers()]
        # DistributedDataParallel may write the new gradients where the old ones are.
        gradients = [
            (p.grad, None if p.grad is None else p.grad.clone()) for p in params
        ]
        devices = [] if self._of_device is None else [torch.cuda.current_device()]
        try:
            for param in params:
                param.grad = None
            with torch.random.fork_rng(devices), self._tracker.passes.paused():
                torch.set_rng_state(self._random)
                if self._of_device is not None:
                    torch.cuda.set_rng_state(self._of_device)
                with torch.enable_grad():
                    loss = self._closure()
        finally:
            for param, (gradient, before) in zip(params, gradients, strict=True):
                param.grad = gradient
                if gradient is not None:
                    gradient.copy_(before)
            for buffer, before in buffers:
                buffer.copy_(before)
        return loss.detach() if isinstance(loss, torch.Tensor) else loss


@contextmanager
def moving(
    params: Mapping[str, torch.Tensor], names: tuple[str, ...]
) -> Iterator[Callable[[Mapping[str, torch.Tensor]], None]]:
    """Give a function that moves parameters; an error moves them back.

    Args:
        params: The parameters, by name.
        names: Which of them move.

    Yields:
        The function, of where to.
    """
    before = {name: params[name].detach().clone() for name in names}

    def place(there: Mapping[str, torch.Tensor]) -> None:
        for name in names:
            params[name].detach().copy_(there[name])
        torch.clear_autocast_cache()  # it has the casts of what they were

    try:
        yield place
    except BaseException:
        place(before)
        raise
