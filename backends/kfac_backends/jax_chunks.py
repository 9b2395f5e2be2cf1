"""JAX: sums over chunks of rows, as a loop or as one product of a stack."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kfac_core.typing import Array

RUN = 512
"""Rows whose product loses no digits, however few its columns."""


def sum_in_loop(
    function: Callable[[Any], Sequence[Array]], x: Any, size: int
) -> list[Array]:
    """Return the sums of what a function returns for chunks of an array.

    Args:
        function: Returns arrays of shapes that do not depend on the chunk's length.
        x: ``[cases, ...]``.
        size: Cases in a chunk; fewer are taken at once.

    Returns:
        One sum for each array that the function returns.
    """
    if x.shape[0] <= size:
        return list(function(x))
    count = x.shape[0] // size
    if count == 1:
        total = list(function(x[:size]))
    else:
        # Every so many cases one, so that each chunk has cases of every device.
        cases = jnp.reshape(x[: count * size], (size, count, *x.shape[1:]))

        def parts(k: Any) -> list[Any]:
            return list(function(jax.lax.dynamic_index_in_dim(cases, k, 1, False)))

        def step(total: list[Any], k: Any) -> tuple[list[Any], None]:
            return [*map(jnp.add, total, parts(k))], None

        zeros = [
            jax.lax.full_like(x, 0, part.dtype, part.shape)
            for part in jax.eval_shape(parts, 0)
        ]
        total, _ = jax.lax.scan(step, zeros, jnp.arange(count))
    if count * size == x.shape[0]:
        return total
    return [*map(jnp.add, total, function(x[count * size :]))]


def product_in_runs(matmul: Callable[[Any, Any], Array], a: Any) -> Array:
    """Return ``a.T @ a``, first of runs of rows, then the sum over runs.

    Args:
        matmul: Multiplies stacks of matrices.
        a: ``[..., rows, n]``.

    Returns:
        ``[..., n, n]``.
    """
    *stack, rows, n = a.shape
    count = rows // RUN
    if count < 2:
        return matmul(a.mT, a)
    runs = jnp.reshape(a[..., : count * RUN, :], (*stack, count, RUN, n))
    rest = a[..., count * RUN :, :]
    total: Array = jnp.sum(matmul(runs.mT, runs), axis=-3) + matmul(rest.mT, rest)
    return total
