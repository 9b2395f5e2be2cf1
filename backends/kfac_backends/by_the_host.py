"""What goes by way of NumPy: copies, and random numbers of libraries without any."""

from typing import Any

import numpy as np

from kfac_core.typing import Array, Device, DType, Key, Namespace


class ByTheHost:
    """The functions of a backend that copy, and that draw by a generator of NumPy."""

    xp: Namespace

    def to_numpy(self, x: Any) -> Any:
        """Copy through DLPack; to the host, where the array is elsewhere."""
        on_host = x.__dlpack_device__()[0] == 1  # DLPack's number of the CPU
        return np.from_dlpack(x, device=None if on_host else "cpu").copy()

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy through the standard's `asarray`."""
        copied: Array = self.xp.asarray(np.array(x, order="C"), device=device)
        return copied

    def members(self, x: Array) -> list[Array]:
        """Copy each."""
        # Not by `unstack`: that of PyTorch cannot be mapped over.
        parts = [x[i, ...] for i in range(x.shape[0])]
        return [self.xp.astype(own, x.dtype, copy=True) for own in parts]

    def split(self, key: Key, count: int) -> tuple[Key, ...]:
        """Return the generator itself: it changes as it draws."""
        return (key,) * count

    def uniform(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw on the host from the `numpy.random.Generator` `key`."""
        return self._drawn(key.random(shape), dtype, device)

    def normal(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw on the host from the `numpy.random.Generator` `key`."""
        return self._drawn(key.standard_normal(shape), dtype, device)

    def _drawn(self, values: Any, dtype: DType, device: Device) -> Array:
        drawn: Array = self.xp.astype(self.from_numpy(values, device), dtype)
        return drawn
