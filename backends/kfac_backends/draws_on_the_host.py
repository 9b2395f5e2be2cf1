"""Random numbers of NumPy, for libraries that have none of their own."""

from typing import Any

from kfac_core.typing import Array, Device, DType, Key, Namespace


class DrawsOnTheHost:
    """The functions of a backend that draw, by `numpy.random.Generator` as the key."""

    xp: Namespace

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy an array of NumPy to a device.

        Raises:
            NotImplementedError: If the backend does not say how.
        """
        raise NotImplementedError

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
