"""A backend on trial: what the checks know about it, and how they use it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.typing import Array, Device, Key


def require(truth: Any, message: str) -> None:
    """Raise an `AssertionError` unless `truth`, under ``python -O`` as well.

    Args:
        truth: Whether the claim holds.
        message: What was found, and what was expected.

    Raises:
        AssertionError: If the claim does not hold.
    """
    if not truth:
        raise AssertionError(message)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A backend, with facts about its library that the protocol does not give.

    Attributes:
        backend: The backend on trial.
        device: Where to put the arrays; the library's default if None.
        make_key: Makes from a seed what the library draws random numbers from.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import load_backend
        >>> candidate = Candidate(load_backend("numpy"), None, np.random.default_rng)
        >>> list(candidate.floats())
        ['float32', 'float64']
        >>> candidate.array([1, 2], "float32")
        array([1., 2.], dtype=float32)
    """

    backend: Backend
    device: Device = None
    make_key: Callable[[int], Key] = np.random.default_rng

    def __post_init__(self) -> None:
        """Check that there is something to try.

        Raises:
            ArgumentError: If `backend` is not a backend, or `make_key` not a function.
        """
        found: object = self.backend
        # If it lacks other members, the checks report that.
        if isinstance(found, type) or not (
            hasattr(found, "name") and hasattr(found, "xp")
        ):
            msg = f"backend is {found!r}, expected a kfac_core.backend.Backend"
            raise ArgumentError(msg)
        maker: object = self.make_key
        if not callable(maker):
            msg = f"make_key is {maker!r}, expected a function of a seed"
            raise ArgumentError(msg)

    def array(self, values: Any, dtype: str | None = None) -> Array:
        """Return an array of the library on the device, read-only if it can be.

        Args:
            values: A NumPy array, or what makes one.
            dtype: NumPy name of the dtype; that of `values` if None.

        Returns:
            The array.
        """
        source = np.array(values, dtype=dtype)
        source.flags.writeable = False
        x = self.backend.from_numpy(source, self.device)
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
        return x

    def numpy(self, x: Array) -> Any:
        """Return the values of `x`."""
        return self.backend.to_numpy(x)

    def floats(self) -> Iterator[str]:
        """Yield the names of the dtypes to check, float64 unless it is refused."""
        yield "float32"
        try:
            self.array(np.zeros(1))
        except TypeError:
            return
        yield "float64"
