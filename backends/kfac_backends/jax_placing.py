"""JAX: new arrays in a dtype and on a device that are asked for; sums by index."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kfac_core.typing import Array, Device, DType

SCATTER_LANES = 256
"""Number of partial sums for each index, which are added at the end."""


def check_enabled(dtype: DType) -> None:
    """Refuse a dtype that JAX would silently replace by one of half its size.

    Raises:
        TypeError: If it would.
    """
    enabled = jax.dtypes.canonicalize_dtype(dtype)
    if enabled != dtype:
        msg = (
            f"JAX would silently make {np.dtype(dtype)} into {enabled}: call"
            " jax.config.update('jax_enable_x64', True) first, or ask for it"
        )
        raise TypeError(msg)


def placed(x: Any, device: Device) -> Array:
    """Return an array on a device; None: where it is."""
    there: Array = x if device is None else jax.device_put(x, device)
    return there


def scatter_add(size: int, indices: Any, weights: Any, device: Device) -> Array:
    """Add weights by index, in float64 or in lanes.

    Args:
        size: Number of sums.
        indices: ``[n]``; those beyond `size` are dropped.
        weights: ``[n]``.
        device: Where to create arrays.

    Returns:
        ``[size]``.
    """
    # XLA adds one number after the other, with one rounding each.
    if jax.config.jax_enable_x64:
        wide = weights.astype("float64")
        zeros = jnp.zeros(size, wide.dtype, device=device)
        added: Any = zeros.at[indices].add(wide, mode="drop")
        return added.astype(weights.dtype)  # type: ignore[no-any-return]
    # The lanes take no more memory than the weights.
    lanes = max(1, min(SCATTER_LANES, weights.shape[0] // max(size, 1)))
    own = jnp.arange(weights.shape[0]) % lanes
    stack = jnp.zeros((lanes, size), weights.dtype, device=device)
    total: Array = jnp.sum(stack.at[own, indices].add(weights, mode="drop"), axis=0)
    return total
