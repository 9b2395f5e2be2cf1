"""`pushed`: the change of a model's outputs for a change of its parameters."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from kfac_adapters.torch.capture import Capture
from kfac_adapters.torch.passes import Call


def pushed(
    capture: Capture, call: Call, tangents: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return ``J v`` of a pass, which is done again with the random numbers it had.

    It is done in forward mode, or, if a function of the model has none, by
    differentiating ``J' u``, which is linear in ``u``, for ``u``. Fused attention has
    neither, and is computed by its formula.

    Args:
        capture: The model, whose buffers stay as they are.
        call: The pass.
        tangents: The ``v``, by the name of the parameter.

    Returns:
        The change of what goes into the loss.

    Raises:
        RuntimeError: What the model raises.
    """
    with _as_it_was(call), sdpa_kernel(SDPBackend.MATH), _no_fast_path():
        try:
            return _in_forward_mode(capture, call, tangents)
        except (NotImplementedError, RuntimeError) as error:
            if "forward" not in str(error) or " AD" not in str(error):
                raise
    with _as_it_was(call), sdpa_kernel(SDPBackend.MATH):
        return _by_two_backward_passes(capture, call, tangents)


def _in_forward_mode(
    capture: Capture, call: Call, tangents: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    _quietly_loaded()
    with torch.no_grad(), forward_ad.dual_level():
        arrays = _arrays(capture.model)
        for name, tangent in tangents.items():
            param = arrays[name]
            arrays[name] = forward_ad.make_dual(param, tangent.to(param.dtype))
        outputs = _outputs(capture, call, arrays)
        primal, change = forward_ad.unpack_dual(outputs)
        return torch.zeros_like(primal) if change is None else change.clone()


@cache
def _quietly_loaded() -> None:
    """Load what forward mode loads at its first use, which warns of PyTorch itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import_module("torch._decomp.decompositions_for_jvp")


def _by_two_backward_passes(
    capture: Capture, call: Call, tangents: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    with torch.enable_grad():
        arrays = _arrays(capture.model)
        leaves = {name: arrays[name].requires_grad_() for name in tangents}
        outputs = _outputs(capture, call, arrays)
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, [*leaves.values()], u, create_graph=True, allow_unused=True
        )
        pairs = [
            (g, v.to(g.dtype))
            for g, v in zip(pulled, tangents.values(), strict=True)
            if g is not None
        ]
        (change,) = torch.autograd.grad([g for g, _ in pairs], u, [v for _, v in pairs])
    return change


def _arrays(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters without a graph, and buffers that a pass may change."""
    params = {name: param.detach() for name, param in model.named_parameters()}
    return params | {name: x.clone() for name, x in model.named_buffers()}


def _outputs(
    capture: Capture, call: Call, arrays: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    with _without_exchange(capture.model):
        result = functional_call(
            capture.model, dict(arrays), call.args, dict(call.kwargs)
        )
    return capture.outputs_of(result)


@contextmanager
def _without_exchange(model: torch.nn.Module) -> Iterator[None]:
    """Call what is in ``DistributedDataParallel`` itself.

    That prepares an exchange of gradients which would never come, and has no forward
    mode; and other ranks may have no case to push.
    """
    wrappers: list[Any] = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.parallel.DistributedDataParallel)
    ]
    for wrapper in wrappers:
        # Not the module's own `forward`, since its hooks are called as well.
        wrapper.forward = partial(_called, wrapper.module)
    try:
        yield
    finally:
        for wrapper in wrappers:
            del wrapper.forward


def _called(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


@contextmanager
def _as_it_was(call: Call) -> Iterator[None]:
    """Draw the random numbers that a pass drew, and leave the generators alone."""
    devices = [] if call.of_device is None else [torch.cuda.current_device()]
    with torch.random.fork_rng(devices):
        torch.set_rng_state(call.random)
        if call.of_device is not None:
            torch.cuda.set_rng_state(call.of_device)
        yield


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Do without what `torch.nn.TransformerEncoderLayer` has for inference."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
