"""The array libraries that can be verified, and their devices."""

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.registry import (
    NOT_BY_DEFAULT,
    available_backends,
    backend_of,
    load_backend,
)
from kfac_core.typing import Device

LABEL = "verify"


class Opened(NamedTuple):
    """A library that is ready to compute.

    Attributes:
        name: Its top-level package.
        backend: Its backend.
        device: Where to compute; None: where it does by default.
    """

    name: str
    backend: Backend
    device: Device


def installed() -> tuple[str, ...]:
    """Return the libraries with a backend that are installed, with a device."""
    names = (name for name in available_backends() if name not in NOT_BY_DEFAULT)
    return tuple(name for name in names if find_spec(name) and _has_device(name))


@contextmanager
def opened(name: str, device: str | None = None) -> Iterator[Opened]:
    """Load a library, with float64 enabled in JAX as long as the context lasts.

    Args:
        name: Top-level package of an array library with a backend, or of another that
            follows the standard, such as ``"array_api_strict"``.
        device: A device as the library names it; None: its default.

    Yields:
        The library.

    Raises:
        ArgumentError: If there is no such library or device.
    """
    known = ", ".join(installed())
    given: object = name
    if not isinstance(given, str) or not given.isidentifier() or not find_spec(given):
        msg = f"{LABEL}: library is {name!r}, expected one that is installed: {known}"
        raise ArgumentError(msg)
    module = importlib.import_module(name)
    with _float64(module) if name == "jax" else nullcontext():
        if name in available_backends():
            backend = load_backend(name)
        elif hasattr(module, "asarray"):
            backend = backend_of(module.asarray(0.0))
        else:
            msg = f"{LABEL}: library {name!r} has no arrays, expected one of {known}"
            raise ArgumentError(msg)
        yield Opened(name, backend, _device(module, name, backend, device))


def _float64(jax: Any) -> AbstractContextManager[Any]:
    """Enable float64 in JAX; its release 0.7 has that among the experiments."""
    if not hasattr(jax, "enable_x64"):
        jax = importlib.import_module("jax.experimental")
    enabled: AbstractContextManager[Any] = jax.enable_x64(True)
    return enabled


def _device(module: Any, name: str, backend: Backend, device: str | None) -> Device:
    """Return a device of a library by its name.

    Raises:
        ArgumentError: If an array cannot be made there.
    """
    if device is None:
        return None
    try:
        found = _named_device(module, name, device)
        backend.from_numpy(np.zeros(1), found)
    # Whatever the library says of the device is what the user needs to read.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        msg = (
            f"{LABEL}: device is {device!r}, and {name} cannot compute in float64"
            f" there: {type(error).__name__}: {reason}; leave it out for the default"
        )
        raise ArgumentError(msg) from error
    return found


def _named_device(module: Any, name: str, device: str) -> Device:
    kind, _, index = device.partition(":")
    if name == "torch":
        return module.device(device)
    if name == "jax":
        return module.devices(kind)[int(index or 0)]
    if name == "cupy":
        return int(index or 0)
    if kind != "cpu":
        msg = f"{name} computes on the CPU"
        raise ValueError(msg)
    return None


def _has_device(name: str) -> bool:
    if name != "cupy":
        return True
    try:
        count: int = importlib.import_module(name).cuda.runtime.getDeviceCount()
    except Exception:  # without a driver, CuPy raises errors of many kinds
        return False
    return count > 0
