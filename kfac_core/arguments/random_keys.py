"""Random numbers from the key that a user gives, with errors that name it."""

from collections.abc import Callable
from typing import Any, TypeVar

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.typing import Array

T = TypeVar("T")


def drawn(backend: Backend, key: Any, layer: str, draw: Callable[[Any], T]) -> T:
    """Return what `draw` draws from a key.

    Args:
        backend: Backend that draws.
        key: What the user gave: a generator of NumPy or PyTorch, a key of JAX.
        layer: Name of the layer or the model, for the message.
        draw: Takes the key.

    Returns:
        What `draw` returns.

    Raises:
        ArgumentError: If the key is not one of this library. The library's own error is
            the cause of this one.
    """
    try:
        return draw(key)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        msg = (
            f"{layer}: key is a {type(key).__name__} that {backend.name} draws nothing"
            f" from ({error}); expected a numpy.random.Generator, a torch.Generator of"
            " the device, or a key of jax.random.key"
        )
        raise ArgumentError(msg) from error


def check_key(backend: Backend, key: Any, like: Array, layer: str) -> None:
    """Check a key that nothing is drawn from, as if something were.

    No number is drawn, so that a generator stays as it is.

    Args:
        backend: Backend that would draw.
        key: What the user gave; None: nothing.
        like: Array of real numbers that gives dtype and device.
        layer: Name of the layer or the whole, for the message.

    Raises:
        ArgumentError: As `drawn`.
    """
    if key is not None:
        device = backend.creation_device(like)
        drawn(
            backend, key, layer, lambda k: backend.uniform(k, (0,), like.dtype, device)
        )
