"""JAX: sums over chunks of rows, as a loop that is compiled once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kfac_backends.runs import FEW_OF_XLA, run_length
from kfac_core.typing import Array


def sum_in_loop(
    function: Callable[[Any], Sequence[Array]], x: Any, size: int
) -> list[Array]:
    """Return the sums of what a function returns for chunks of an array.

    Args:
        function: Returns arrays of shapes that do not depend on the chunk's length.
        x: ``[cases, ...]``.
        size: Number of cases in a chunk; if there are fewer, they are one chunk.

    Returns:
        A sum for each array that the function returns.
    """
    if x.shape[0] <= size:
        return list(function(x))
    count = x.shape[0] // size
    if count == 1:
        total = list(function(x[:size]))
    else:
        # A chunk takes cases at equal distances, and so has cases of every device.
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


def gram_in_loop(gram: Callable[[Any], Array], a: Any) -> Array:
    """Return ``a.T @ a`` as the sum over runs of rows, with compensation.

    Args:
        gram: Returns the Gram matrix of one run.
        a: ``[rows, n]``, with more rows than a run.

    Returns:
        ``[n, n]``, symmetric bit for bit like the results of `gram`.
    """
    return _in_loop(lambda x, _: gram(x), a, a, run_length(a.shape[1], FEW_OF_XLA))


def cross_in_loop(multiply: Callable[[Any, Any], Array], a: Any, b: Any) -> Array:
    """Return ``a.T @ b`` as the sum over runs of rows, with compensation.

    Args:
        multiply: Returns the product of one run.
        a: ``[rows, n]``, more rows than a run.
        b: ``[rows, m]``.

    Returns:
        ``[n, m]``.
    """
    return _in_loop(multiply, a, b, run_length(min(a.shape[1], b.shape[1]), FEW_OF_XLA))


def _in_loop(multiply: Callable[[Any, Any], Array], a: Any, b: Any, run: int) -> Array:
    rows, count = a.shape[0], a.shape[0] // run

    def part(k: Any) -> Array:
        first = jax.lax.dynamic_slice_in_dim(a, k * run, run, 0)
        if b is a:
            return multiply(first, first)
        return multiply(first, jax.lax.dynamic_slice_in_dim(b, k * run, run, 0))

    def step(totals: tuple[Any, Any], k: Any) -> tuple[tuple[Any, Any], None]:
        return _compensated(totals, part(k)), None

    zeros = jax.lax.full_like(a, 0, shape=(a.shape[1], b.shape[1]))
    totals, _ = jax.lax.scan(step, (zeros, zeros), jnp.arange(count))
    if count * run < rows:
        totals = _compensated(totals, multiply(a[count * run :], b[count * run :]))
    total: Array = totals[0] + totals[1]
    return total


def _compensated(totals: tuple[Any, Any], part: Any) -> tuple[Any, Any]:
    """Return a sum with one more term, and the sum of what was rounded away.

    This is Knuth's sum of two numbers and its error, which is exact whichever number is
    larger (Higham, 4.3). XLA does not change the order of additions.
    """
    total, lost = totals
    new = total + part
    of_part = new - total
    error = (total - (new - of_part)) + (part - of_part)
    return new, lost + error
