"""An array of any library as one of a template's library, dtype and device."""

from typing import Any, NamedTuple

import numpy as np

from kfac_core.backend import Backend
from kfac_core.errors import DTypeError, ShapeError
from kfac_core.registry import backend_of
from kfac_core.saving.names import check_array
from kfac_core.typing import Array, Device, DType


class Place(NamedTuple):
    """What an array must be to stand in the place of a template's array.

    Attributes:
        backend: Its backend.
        shape: Its shape.
        dtype: Its dtype.
        device: Where it lies; None where that is not known.
        creation_device: The ``device=`` with which to create an array there.
    """

    backend: Backend
    shape: tuple[int, ...]
    dtype: DType
    device: Device
    creation_device: Device


def place_of(x: Array) -> Place:
    """Return the place of a template's array."""
    backend = backend_of(x)
    return Place(
        backend, tuple(x.shape), x.dtype, backend.device(x), backend.creation_device(x)
    )


def dtype_name(dtype: DType) -> str:
    """Return the name of a dtype, the same for all libraries.

    Example:
        >>> dtype_name(np.dtype(">f4"))
        'float32'
    """
    name = getattr(dtype, "name", None)
    return name if isinstance(name, str) else str(dtype).rpartition(".")[2]


def is_of_kind(dtype: str, wanted: str) -> bool:
    """Return whether an array of one dtype may stand where another is expected.

    Libraries count in integers of different lengths; all else must be equal.
    """
    return dtype == wanted or (
        dtype.lstrip("u").startswith("int") and wanted.lstrip("u").startswith("int")
    )


def fitted(x: Any, place: Place, name: str, label: str) -> Array:
    """Return an array for a place.

    Args:
        x: An array of any library.
        place: What it must be.
        name: Name of the array, for the message.
        label: Name of the function that was called, for the message.

    Returns:
        The array itself if it is of the library and device; otherwise a copy.

    Raises:
        ShapeError: If the shape differs.
        DTypeError: If the dtype differs, or an integer does not fit.
    """
    check_array(x, f"{label}: {name}")
    backend = backend_of(x)
    check_form(tuple(x.shape), dtype_name(x.dtype), place, name, label)
    if backend.has_graph(x):
        x = backend.stop_gradient(x)
    if backend is place.backend and x.dtype == place.dtype:
        device = backend.device(x)
        if device is None or device == place.device:
            return x  # type: ignore[no-any-return]
    return from_host(backend.to_numpy(x), place, name, label)


def check_form(
    shape: tuple[int, ...], dtype: str, place: Place, name: str, label: str
) -> None:
    """Check shape and dtype of an array for a place; errors as in `fitted`."""
    if shape != place.shape:
        msg = (
            f"{label}: {name} has shape {shape}, expected {place.shape}: it was made by"
            " another spec"
        )
        raise ShapeError(msg)
    wanted = dtype_name(place.dtype)
    if not is_of_kind(dtype, wanted):
        msg = (
            f"{label}: {name} has dtype {dtype}, expected {wanted}: restore it into a"
            " state of the dtype that it was saved with"
        )
        raise DTypeError(msg)


def from_host(x: Any, place: Place, name: str, label: str) -> Array:
    """Return a NumPy array, whose form is checked, as an array for a place.

    Raises:
        DTypeError: If the library has no such dtype here, or an integer does not fit.
    """
    backend, xp = place.backend, place.backend.xp
    if dtype_name(place.dtype) == "bfloat16":
        x = x.astype(np.float32)  # NumPy has none, and every one is a float32
    elif x.dtype.kind in "iu":
        narrow = x.astype(dtype_name(place.dtype))
        if not np.array_equal(narrow, x):
            msg = f"{label}: {name} is {x}, which {place.dtype} does not hold"
            raise DTypeError(msg)
        x = narrow
    try:
        found = backend.from_numpy(x, place.creation_device)
    except TypeError as error:
        msg = f"{label}: {name}: {error}"
        raise DTypeError(msg) from None
    if found.dtype != place.dtype:
        found = xp.astype(found, place.dtype)
    return found
