"""Checks of integers that name something: ids, labels."""

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, DTypeError
from kfac_core.typing import Array


def check_indices(
    backend: Backend, indices: Array, size: int, argument: str, layer: str
) -> None:
    """Check that integers are in ``[0, size)``; their values only where they exist.

    Args:
        backend: Backend of the indices.
        indices: Of any shape.
        size: How many there are to name.
        argument: Name of the indices, for the message.
        layer: Name of the layer or loss, for the message.

    Raises:
        DTypeError: If they are not integers.
        ArgumentError: If one is out of range.
    """
    xp = backend.xp
    if not xp.isdtype(indices.dtype, "integral"):
        msg = f"{layer}: {argument} has dtype {indices.dtype}, expected integers"
        raise DTypeError(msg)
    if 0 in indices.shape:
        return
    low, high = xp.min(indices), xp.max(indices)
    # Within a trace, what is computed from a constant has no value either.
    if backend.is_traced(low):
        return
    if int(low) < 0 or int(high) >= size:
        msg = (
            f"{layer}: {argument} are from {int(low)} to {int(high)}, expected 0 to"
            f" {size - 1}"
        )
        raise ArgumentError(msg)
