"""Gradients for a bias that is added to outputs of any shape."""

import math

from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.statistics.position_sums import sum_over
from kfac_core.typing import Array


def bias_gradients(
    backend: Backend, g: Array, shape: tuple[int, ...], layer: str
) -> Array:
    """Return each case's gradient for the bias of ``y = x + bias``.

    The bias is aligned with the outputs at their last axes, and broadcast along all
    other axes; its gradient is the sum of `g` over these other axes.

    Args:
        backend: Backend of `g`.
        g: Gradients for the outputs, ``[batch, ...]``.
        shape: Shape of the bias, with or without axes of size one in front.
        layer: Name of the layer, for the message.

    Returns:
        ``[batch, n]``, the bias flattened row-major.

    Raises:
        ShapeError: If the bias cannot be broadcast to the outputs.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> g = np.arange(8.0).reshape(1, 2, 2, 2)
        >>> backend = backend_of(g)
        >>> bias_gradients(backend, g, (2,), "bias")
        array([[12., 16.]])
        >>> bias_gradients(backend, g, (2, 1, 1), "bias")
        array([[ 6., 22.]])
    """
    aligned = shape
    while aligned and aligned[0] == 1 and len(aligned) >= g.ndim:
        aligned = aligned[1:]
    first = g.ndim - len(aligned)
    sizes = tuple(g.shape[first:]) if first > 0 else ()
    pairs = [*zip(aligned, sizes, strict=False)]
    if first < 1 or any(size not in {1, wanted} for size, wanted in pairs):
        msg = (
            f"{layer}: outputs_grads has shape {tuple(g.shape)}, expected [batch, ...]"
            f" to which a bias of shape {shape} can be broadcast from the right"
        )
        raise ShapeError(msg)
    broadcast = [axis for axis, (size, _) in enumerate(pairs, first) if size == 1]
    dims = (*range(1, first), *broadcast)
    total = sum_over(backend, g, dims)
    return backend.xp.reshape(total, (g.shape[0], math.prod(aligned)))
