"""Finds the backend of arrays, with a table of names and a memory of types.

A backend is loaded when the first of its arrays is seen, so that importing this
package imports no framework. There is no global setting to choose one.
"""

import importlib
from collections.abc import Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from kfac_core.backend import Backend
from kfac_core.errors import BackendError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

ENTRY_POINT_GROUP = "kfac_core.backends"

BUILTIN_BACKENDS = MappingProxyType(
    {
        "numpy": "kfac_backends.numpy",
        "torch": "kfac_backends.torch",
        "jax": "kfac_backends.jax",
        "jaxlib": "kfac_backends.jax",
        "cupy": "kfac_backends.cupy",
        "mparray": "kfac_backends.mparray",
        "ndonnx": "kfac_backends.ndonnx",
        "mlx": "kfac_backends.mlx",
    }
)
"""Top-level package of an array's type -> module with the `backend` for it."""

NOT_BY_DEFAULT = frozenset({"jaxlib", "mparray", "ndonnx"})
"""JAX's other package, and libraries too slow to try unless they are named."""

_OPERATORS = np.lib.mixins.NDArrayOperatorsMixin

BACKEND_OF_TYPE: dict[type, Backend] = {}
"""Types of arrays that were seen, and their backends.

This is a memory and not a setting: what a type maps to never changes. Every verb looks
into it: compilers know a dictionary, of which they do not all know a bound method.
"""


def backend_of(*arrays: Any) -> Backend:
    """Return the backend that all `arrays` share.

    Args:
        *arrays: Arrays of one library on one device, at least one.

    Returns:
        The backend, loaded at first use.

    Raises:
        BackendError: If an argument is not an array, or of a kind that computes
            differently (``np.matrix``, arrays with masks or units), or if two arrays
            are of different libraries or devices.

    Example:
        >>> import numpy as np
        >>> backend_of(np.ones(3), np.zeros((2, 2))).name
        'numpy'
    """
    known = BACKEND_OF_TYPE.get(type(arrays[0])) if arrays else None
    if known is not None and known.are_alike(arrays):
        return known
    backend: Backend | None = None
    device = None
    for x in arrays:
        found = BACKEND_OF_TYPE.get(type(x)) or _resolve(x)
        try:
            found.check(x)
        except TypeError as error:
            raise BackendError(*error.args) from None
        if backend is None:
            backend = found
        elif found is not backend:
            msg = (
                f"arrays of two libraries in one call: {backend.name} and {found.name}."
                " Convert one of them first; nothing is converted silently."
            )
            raise BackendError(msg)
        here = found.device(x)
        if device is None:
            device = here
        elif here is not None and here != device:
            msg = (
                f"arrays on two devices in one call: {device} and {here}."
                " Move one of them first; nothing is moved silently."
            )
            raise BackendError(msg)
    if backend is None:
        msg = "expected at least one array to tell the array library by, got none"
        raise BackendError(msg)
    return backend


def remember(kind: type, backend: Backend) -> None:
    """Let arrays of a type of this package have a backend, which no package names."""
    BACKEND_OF_TYPE[kind] = backend


def available_backends() -> tuple[str, ...]:
    """Return the top-level packages whose arrays have a backend of their own.

    Arrays of other libraries that follow the standard work as well, through the
    fallback that uses the standard alone.
    """
    plugins = (entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))
    return tuple(dict.fromkeys((*BUILTIN_BACKENDS, *plugins)))


def load_backend(package: str) -> Backend:
    """Load the backend for the arrays of a top-level package.

    Args:
        package: One of `available_backends`, such as ``"torch"``.

    Returns:
        The backend.

    Raises:
        BackendError: If there is no such backend, the library is not installed, or the
            entry point does not name a backend.
    """
    name: object = package
    known = isinstance(name, str)
    if known and package in BUILTIN_BACKENDS:
        try:
            module = importlib.import_module(BUILTIN_BACKENDS[package])
        except ImportError as error:
            msg = f"package {package!r} cannot be loaded: {error}; install it first"
            raise BackendError(msg) from error
        found: Any = module.backend
        return found  # type: ignore[no-any-return]
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if known and entry.name == package:
            found = entry.load()
            if not isinstance(found, Backend):
                msg = (
                    f"entry point {entry.value!r} of group {ENTRY_POINT_GROUP!r} is a"
                    f" {type(found).__name__}, expected a kfac_core.backend.Backend:"
                    " run kfac_core.testing.check_backend on it"
                )
                raise BackendError(msg)
            return found
    known_ones = ", ".join(available_backends())
    msg = f"no backend for the package {package!r}; there are {known_ones}"
    raise BackendError(msg)


def entry_points(group: str) -> "EntryPoints":
    """Return the entry points of a group."""
    # The import takes time, which users of the libraries above should not pay.
    from importlib import metadata

    return metadata.entry_points(group=group)


def _packages_of(cls: type) -> Iterator[str]:
    """Yield the top-level packages of a type and its bases, nearest first."""
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        # Python's types and ours have no backend, so that no search is needed; nor is
        # a class one of NumPy's arrays that has its operators from there.
        if package not in {"builtins", "kfac_core"} and base is not _OPERATORS:
            yield package


def _resolve(x: Any) -> Backend:
    """Find the backend of an array of a type not seen before, and remember it."""
    cls = type(x)
    for package in _packages_of(cls):
        if package in BUILTIN_BACKENDS or package in available_backends():
            found = load_backend(package)
            BACKEND_OF_TYPE.update(dict.fromkeys((cls, *found.array_types), found))
            return found
    if hasattr(cls, "__array_namespace__"):  # a class of arrays has it, and is none
        fallback = importlib.import_module("kfac_backends.array_api")
        try:
            xp = x.__array_namespace__()
        # Whatever a library raises is told.
        except Exception as error:
            msg = (
                f"{cls.__module__}.{cls.__qualname__} names no namespace of the array"
                f" API standard: __array_namespace__ raised {type(error).__name__}:"
                f" {error}. Install what it needs, or convert such arrays, for instance"
                " to NumPy's"
            )
            raise BackendError(msg) from error
        if lacks := fallback.lacking(xp, x):
            msg = (
                f"{cls.__module__}.{cls.__qualname__} lacks what is needed of the array"
                f" API standard: {'; '.join(lacks)}. Convert such arrays, for instance"
                " to NumPy's, or write a backend for them: docs/writing_a_backend.md"
            )
            raise BackendError(msg)
        backend: Backend = fallback.backend_for(xp)
        BACKEND_OF_TYPE[cls] = backend
        return backend
    # NumPy makes one object of a sparse matrix, and says nothing.
    how = ".toarray()" if hasattr(cls, "toarray") else "numpy.asarray"
    msg = (
        f"expected an array (NumPy, PyTorch, JAX, CuPy, or any that follows the array"
        f" API standard), got {cls.__module__}.{cls.__qualname__}: convert it, for"
        f" instance with {how}"
    )
    raise BackendError(msg)
