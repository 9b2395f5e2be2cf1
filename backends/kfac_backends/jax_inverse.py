"""JAX: Cholesky factors and inverses of positive-definite matrices, in panels.

LAPACK, as JAX calls it on the CPU, factorises a matrix at a sixth of the speed of XLA's
products, and solves a triangular system at half of that speed. With panels, almost all
of the work is products, which leave out blocks of zeros.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from kfac_core.typing import Array

FACTOR_LEAF, FACTOR_PANELS = 128, 8
"""Size up to which LAPACK factorises a matrix, and number of panels of larger ones.

Smaller numbers, here and below, are hardly faster, and take longer to compile.
"""
INVERSE_LEAF = 64
"""Size up to which LAPACK inverts a triangle; others are halved."""
SQUARE_NARROWEST, SQUARE_PANELS = 128, 6
"""Least number of columns of the panels for the square of a triangle; their number."""


def matmul(a: Any, b: Any) -> Array:
    """Return ``a @ b`` without TF32 or bfloat16 inside."""
    product: Array = jnp.matmul(a, b, precision="highest")
    return product


def _cholesky(a: Any) -> Any:
    """Return the lower factor of `a`, reading its lower triangle alone.

    Args:
        a: ``[..., n, n]``.

    Returns:
        ``[..., n, n]``; its diagonal has a NaN where `a` is not positive definite.
    """
    n = a.shape[-1]
    if n <= FACTOR_LEAF:
        return jnp.linalg.cholesky(a, symmetrize_input=False)
    panels: list[tuple[int, Any]] = []
    for i, j in _spans(n, FACTOR_PANELS, FACTOR_LEAF):
        panel = a[..., i:, i:j]
        if panels:
            rows = [known[..., i - start :, :] for start, known in panels]
            before = jnp.concatenate(rows, -1)
            panel = panel - matmul(before, before[..., : j - i, :].mT)
        own, below = _cholesky(panel[..., : j - i, :]), panel[..., j - i :, :]
        # The system is solved from the left: from the right, LAPACK takes twice as
        # long.
        half = triangular_solve(own, below.mT, left_side=True, lower=True)
        below = jax.lax.optimization_barrier(half.mT)
        panels.append((i, jnp.concatenate([own, below], -2)))
    return jnp.concatenate([_below(i, panel) for i, panel in panels], -1)


def _inverse_from_cholesky(factor: Any) -> Any:
    """Return ``inv(L @ L.T)``, symmetric bit for bit.

    Args:
        factor: Lower ``L``, ``[..., n, n]``.

    Returns:
        ``[..., n, n]``.
    """
    return _upper_square(_inverse_transposed(factor))


# These are compiled even for arrays with values: they are many small operations.
cholesky_in_panels = jax.jit(_cholesky)
inverse_from_cholesky = jax.jit(_inverse_from_cholesky)


def _inverse_transposed(factor: Any) -> Any:
    """Return ``inv(L).T``, upper, so that products need no transposes.

    With ``L = [[A, 0], [C, B]]`` it is ``[[A', -A' C.T B'], [0, B']]``, where a prime
    stands for the inverse transpose of a block.
    """
    n = factor.shape[-1]
    if n <= INVERSE_LEAF:
        eye = jnp.broadcast_to(jnp.eye(n, dtype=factor.dtype), factor.shape)
        return triangular_solve(
            factor, eye, left_side=True, lower=True, transpose_a=True
        )
    h = n // 2
    a = _inverse_transposed(factor[..., :h, :h])
    b = _inverse_transposed(factor[..., h:, h:])
    c = -matmul(matmul(a, factor[..., h:, :h].mT), b)
    return jnp.concatenate([jnp.concatenate([a, c], -1), _right_of(h, b)], -2)


def _upper_square(root: Any) -> Any:
    """Return ``U @ U.T`` of upper ``U``, symmetric bit for bit."""
    spans = _spans(root.shape[-1], SQUARE_PANELS, SQUARE_NARROWEST)
    # Each panel multiplies its rows with themselves and with those before.
    products = [matmul(root[..., i:j, i:], root[..., :j, i:].mT) for i, j in spans]
    bands = []
    for k, (i, j) in enumerate(spans):
        earlier, own = products[k][..., :i], products[k][..., i:]
        mirrored = [later[..., i:j].mT for later in products[k + 1 :]]
        # a + b == b + a in floating point, so this is symmetric bit for bit.
        bands.append(jnp.concatenate([earlier, (own + own.mT) * 0.5, *mirrored], -1))
    return jnp.concatenate(bands, -2)


def _spans(n: int, panels: int, narrowest: int) -> list[tuple[int, int]]:
    """Return where panels start and end; the last one is the shortest."""
    width = max(narrowest, -(-n // panels))
    return [(start, min(start + width, n)) for start in range(0, n, width)]


def _below(rows: int, a: Any) -> Any:
    """Return `a` below rows of zeros."""
    zeros = jnp.zeros((*a.shape[:-2], rows, a.shape[-1]), a.dtype)
    return jnp.concatenate([zeros, a], -2)


def _right_of(columns: int, a: Any) -> Any:
    """Return `a` to the right of columns of zeros."""
    zeros = jnp.zeros((*a.shape[:-1], columns), a.dtype)
    return jnp.concatenate([zeros, a], -1)
