"""Random tensors from a `torch.Generator`."""

from collections.abc import Callable
from typing import Any

import torch

from kfac_core.typing import Array, Device, DType, Key


def drawn(
    draw: Callable[..., Any],
    key: Key,
    shape: tuple[int, ...],
    dtype: DType,
    device: Device,
) -> Array:
    """Return what `draw` draws from a generator, on the generator's own device."""
    where = _device_of(key, device)
    numbers: Array = draw(shape, generator=key, dtype=dtype, device=where)
    return numbers


def _device_of(key: Key, device: Device) -> Device:
    """Return the device to draw on, which must be that of the generator."""
    if not isinstance(key, torch.Generator):
        msg = f"expected a torch.Generator as key, got {type(key).__name__}"
        raise TypeError(msg)
    if device is not None and torch.device(device).type != key.device.type:
        msg = (
            f"the key is a torch.Generator on {key.device}, but numbers on {device} are"
            f" asked for: make the key with torch.Generator({str(device)!r})"
        )
        raise TypeError(msg)
    return key.device if device is None else device
