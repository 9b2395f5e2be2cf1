"""Zeros around images."""

from kfac_core.backend import Backend
from kfac_core.typing import Array


def padded(backend: Backend, x: Array, axis: int, before: int, after: int) -> Array:
    """Return `x` with zeros before and after along an axis."""
    # array_api_extra.pad does the same, but not without a warning of torch.compile.
    if before == after == 0:
        return x
    xp = backend.xp
    device = backend.creation_device(x)

    def zeros(width: int) -> Array:
        shape = (*x.shape[:axis], width, *x.shape[axis + 1 :])
        return xp.zeros(shape, dtype=x.dtype, device=device)

    return xp.concat([zeros(before), x, zeros(after)], axis=axis)
