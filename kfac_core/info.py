"""``kfac-core info``: versions, backends, devices and BLAS, for a bug report."""

import importlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kfac_core.registry import BUILTIN_BACKENDS, available_backends, load_backend

PACKAGES = (
    "kfac_core",
    "numpy",
    "scipy",
    "array-api-compat",
    "array-api-extra",
    "array-api-strict",
    "torch",
    "jax",
    "jaxlib",
    "cupy",
    "mparray",
    "ndonnx",
    "mlx",
)


def report() -> Iterator[str]:
    """Yield the lines of the report.

    It loads every installed array library, to find out whether it can be loaded.
    """
    yield f"Python {platform.python_version()} on {platform.platform()}"
    yield f"processor {platform.processor() or platform.machine()}"
    yield ""
    for package in PACKAGES:
        yield f"{package:<18} {_version(package)}"
    yield ""
    yield "backends (array library: devices)"
    for package in available_backends():
        if package != "jaxlib":  # its arrays are JAX's
            yield f"  {package:<16} {_devices(package)}"
    yield ""
    yield from _blas()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices(package: str) -> str:
    """Return the devices of a library, or why there are none."""
    try:
        library = importlib.import_module(package)
        backend = load_backend(package)
    except Exception as error:  # whatever goes wrong is what the report is for
        return f"not loaded: {type(error).__name__}: {error}"
    plugin = "" if package in BUILTIN_BACKENDS else f" ({backend!r})"
    try:
        devices = ", ".join(map(str, _list_devices(package, library)))
    except Exception as error:
        return f"no device: {type(error).__name__}: {error}"
    return f"{devices}{plugin}"


def _list_devices(package: str, library: Any) -> list[Any]:
    if package == "torch":
        count = library.cuda.device_count()
        cuda = [library.cuda.get_device_name(i) for i in range(count)]
        return ["cpu", *cuda]
    if package == "jax":
        return list(library.devices())
    if package == "cupy":
        return list(range(library.cuda.runtime.getDeviceCount()))
    return ["cpu"]


def _blas() -> Iterator[str]:
    """Yield the linear algebra libraries that are loaded, and their threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        yield "BLAS: install threadpoolctl to see which, and how many threads"
        return
    import scipy.linalg  # noqa: F401 - brings its own

    yield "BLAS and threads"
    for pool in threadpool_info():
        name = f"{pool['internal_api']} {pool['version'] or ''}".strip()
        yield f"  {name:<24} {pool['num_threads']} threads  {pool['prefix']}"
