"""Masks of patches: entries of a convolution's filter that are held at zero.

Multiplying a filter entry by entry with a mask, as an autoregressive image model does,
has the same effect as multiplying its patches with the mask. The second moment of
masked patches is the second moment of the patches times the outer product of the mask
with itself, so that no patch needs to be changed.
"""

from typing import Any, TypeAlias

import numpy as np

from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.typing import Array

PatchMask: TypeAlias = tuple[Any, ...]
"""Nested tuples of numbers, ``[..kernel.., in_channels]``: hashable."""


def as_patch_mask(
    mask: Any, filter_shape: tuple[int, ...], layer: str
) -> PatchMask | None:
    """Return a mask as nested tuples of numbers.

    Args:
        mask: None, or an array or nested lists of the shape ``[..kernel..,
            in_channels]``.
        filter_shape: ``(..kernel.., in_channels, out_channels)``.
        layer: Name of the layer, for the messages.

    Returns:
        The mask, or None.

    Raises:
        ShapeError: If the mask has another shape.
        ArgumentError: If the mask does not hold finite numbers.
        BackendError: If the mask is neither an array nor nested lists.

    Example:
        >>> as_patch_mask([[1], [0]], (2, 1, 3), "layer")
        ((1.0,), (0.0,))
    """
    if mask is None:
        return None
    expected = tuple(filter_shape[:-1])
    try:
        array = (
            np.asarray(mask)
            if isinstance(mask, tuple | list)
            else backend_for(layer, "patch_mask", mask).to_numpy(mask)
        )
        shape = str(array.shape)
    except ValueError:  # of NumPy
        shape = "of lists of several lengths"
    if shape != str(expected):
        msg = (
            f"{layer}: patch_mask has shape {shape}, expected {expected}: the filter's"
            " without the output channels"
        )
        raise ShapeError(msg)
    if array.dtype.kind not in "biuf" or not np.all(np.isfinite(array)):
        msg = f"{layer}: patch_mask is {mask}, expected finite numbers"
        raise ArgumentError(msg)
    return _nested(array.astype(float).tolist())  # type: ignore[no-any-return]


def mask_rows(
    backend: Backend, mask: PatchMask, like: Array, *, has_bias: bool
) -> Array:
    """Return a mask as a vector over the rows of the parameters' matrix.

    Args:
        backend: Backend of `like`.
        mask: ``[..kernel.., in_channels]``.
        like: Array that gives dtype and device.
        has_bias: Whether to append a one for the bias.

    Returns:
        ``[kernel * in_channels]``, one more with bias.
    """
    entries = [*_entries(mask), *([1.0] if has_bias else [])]
    device = backend.creation_device(like)
    return backend.xp.asarray(entries, dtype=like.dtype, device=device)


def masked_moment(
    backend: Backend, moment: Array, mask: PatchMask | None, *, has_bias: bool
) -> Array:
    """Return the second moment ``[n, n]`` of masked patches from that of patches."""
    if mask is None:
        return moment
    rows = mask_rows(backend, mask, moment, has_bias=has_bias)
    # Multiplying by the outer product, computed first, keeps the matrix symmetric bit
    # for bit.
    return moment * (rows[:, None] * rows[None, :])


def masked_squares(
    backend: Backend, squares: Array, mask: PatchMask | None, *, has_bias: bool
) -> Array:
    """Return squared gradients ``[n, m]`` for a masked filter from the unmasked."""
    if mask is None:
        return squares
    rows = mask_rows(backend, mask, squares, has_bias=has_bias)
    return squares * (rows * rows)[:, None]


def _nested(mask: Any) -> Any:
    """Turn nested lists into nested tuples."""
    return tuple(map(_nested, mask)) if isinstance(mask, tuple | list) else mask


def _entries(mask: PatchMask) -> list[float]:
    """Return the numbers of nested tuples, row-major."""
    return [
        entry
        for part in mask
        for entry in (_entries(part) if isinstance(part, tuple) else [part])
    ]
