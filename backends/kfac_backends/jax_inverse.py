"""JAX: the inverse of a matrix from its Cholesky factor, mostly as products.

XLA solves triangular systems at half the speed of its products, and solves with the
identity as with any matrix. Blocks that are halved leave out the zeros, and leave only
small systems to solve.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from kfac_core.typing import Array

LEAF = 256
"""Size up to which a block is not halved."""


def matmul(a: Any, b: Any) -> Array:
    """Return ``a @ b`` without TF32 or bfloat16 inside."""
    product: Array = jnp.matmul(a, b, precision="highest")
    return product


def _inverse_from_cholesky(factor: Any) -> Array:
    """Return ``inv(L @ L.T)``, symmetric bit for bit.

    Args:
        factor: Lower ``L``, ``[..., n, n]``.

    Returns:
        ``[..., n, n]``.
    """
    inverse: Array = _lower_gram(_lower_inverse(factor))
    return inverse


# Compiled even for arrays that have values: it is many small operations.
inverse_from_cholesky = jax.jit(_inverse_from_cholesky)


def _lower_inverse(factor: Any) -> Any:
    """Return ``inv([[A, 0], [C, B]]) = [[inv(A), 0], [-inv(B) C inv(A), inv(B)]]``."""
    n = factor.shape[-1]
    if n <= LEAF:
        eye = jnp.broadcast_to(jnp.eye(n, dtype=factor.dtype), factor.shape)
        return jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    h = n // 2
    a = _lower_inverse(factor[..., :h, :h])
    b = _lower_inverse(factor[..., h:, h:])
    c = -matmul(b, matmul(factor[..., h:, :h], a))
    return jnp.block([[a, jnp.zeros_like(c.mT)], [c, b]])


def _lower_gram(root: Any) -> Any:
    """Return ``R.T @ R`` of lower ``R``, symmetric bit for bit."""
    n = root.shape[-1]
    if n <= LEAF:
        return _symmetric(matmul(root.mT, root))
    h = n // 2
    a, c, b = root[..., :h, :h], root[..., h:, :h], root[..., h:, h:]
    first = _lower_gram(a) + _symmetric(matmul(c.mT, c))
    across = matmul(c.mT, b)
    return jnp.block([[first, across], [across.mT, _lower_gram(b)]])


def _symmetric(a: Any) -> Any:
    return (a + a.mT) * 0.5
