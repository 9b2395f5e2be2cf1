"""PyTorch: contexts in which products are as precise as their arguments."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def no_autocast(a: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which products keep the precision of `a`."""
    kind = a.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        context: contextlib.AbstractContextManager[Any] = torch.autocast(
            kind, enabled=False
        )
        return context
    return contextlib.nullcontext()


@contextlib.contextmanager
def tf32_disabled() -> Iterator[None]:
    """Compute products of float32 on CUDA in float32; keep the caller's setting."""
    settings = torch.backends.cuda.matmul
    # To read the older switch, `allow_tf32`, is an error if the user has chosen a
    # precision by name.
    saved = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = saved


def no_tf32(a: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which products of float32 on CUDA stay in float32."""
    if a.is_cuda and a.dtype == torch.float32 and not torch.compiler.is_compiling():
        return tf32_disabled()
    return contextlib.nullcontext()
