"""Array libraries on a device of choice, such as a GPU."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from benchmarks.cases import UnavailableError
from benchmarks.libraries import load
from benchmarks.libraries.base import Convolution, Function, Library


def on_device(name: str, device: str) -> tuple[Library, str]:
    """Return a library whose arrays lie on a device, and the name of the device.

    Args:
        name: ``"torch"``, ``"jax"`` or ``"cupy"``.
        device: ``"cuda"`` or ``"cpu"``.

    Returns:
        The library, and what the device calls itself.

    Raises:
        UnavailableError: If the library is not installed, or has no such device.
    """
    if not find_spec(name):
        msg = f"{name} is not installed"
        raise UnavailableError(msg)
    return _OF_NAME[name](device)


def _torch(device: str) -> tuple[Library, str]:
    import torch

    if device == "cpu":
        return load("torch"), "CPU"
    if not torch.cuda.is_available():
        msg = "torch sees no CUDA device"
        raise UnavailableError(msg)
    library = load("torch")

    def done(result: Any) -> Any:
        torch.cuda.synchronize()
        return result

    def peak(function: Function, x: Any) -> float:
        function(x)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(x)
        return float(torch.cuda.max_memory_allocated() - before)

    on_card = replace(
        library,
        array=lambda x: torch.tensor(x, device=device),
        wait=done,
        peak=peak,
    )
    return on_card, torch.cuda.get_device_name()


def _jax(device: str) -> tuple[Library, str]:
    import jax

    try:
        chosen = jax.devices(device)[0]
    except RuntimeError:
        msg = f"jax sees no {device.upper()} device"
        raise UnavailableError(msg) from None
    library = load("jax")
    return replace(
        library, array=lambda x: jax.device_put(x, chosen)
    ), chosen.device_kind


def _cupy(device: str) -> tuple[Library, str]:
    if device == "cpu":
        msg = "cupy has no arrays on a CPU"
        raise UnavailableError(msg)
    cupy: Any = importlib.import_module("cupy")
    try:
        card = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except Exception as error:  # without a driver, CuPy raises errors of many kinds
        msg = f"cupy sees no CUDA device: {type(error).__name__}"
        raise UnavailableError(msg) from error

    def cholesky_inverse(a: Any) -> Any:
        """Return the inverse by the factor's inverse: CuPy has no potri."""
        factor = cupy.linalg.inv(cupy.linalg.cholesky(a))
        return factor.T @ factor

    def patches(x: Any, layer: Convolution) -> Any:
        x = cupy.pad(x, ((0, 0), *layer.padding, (0, 0)))
        windows = cupy.lib.stride_tricks.sliding_window_view(
            x, (layer.kernel,) * 2, axis=(1, 2)
        )[:, :: layer.stride, :: layer.stride]
        return windows.reshape(-1, layer.kernel**2 * x.shape[-1])

    def done(result: Any) -> Any:
        cupy.cuda.Device().synchronize()
        return result

    def peak(function: Function, x: Any) -> float:
        """Return what the pool holds after a run that found it empty."""
        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        function(x)
        return float(pool.total_bytes() - before)

    library = Library(
        "cupy",
        ("cupy", "cupy-cuda12x", "cupy-cuda13x", "numpy"),
        cupy.asarray,
        cupy.linalg.inv,
        cupy.linalg.eigh,
        cholesky_inverse,
        {"Cholesky, factor inverted": cholesky_inverse},
        lambda ids, size: cupy.eye(size, dtype="float32")[ids],
        lambda ids, size: cupy.bincount(ids, minlength=size).astype("float32"),
        patches,
        "sliding windows",
        peak,
        wait=done,
    )
    return library, card


_OF_NAME: dict[str, Callable[[str], tuple[Library, str]]] = {
    "torch": _torch,
    "jax": _jax,
    "cupy": _cupy,
}

NAMES = tuple(_OF_NAME)
"""The libraries that have devices."""
