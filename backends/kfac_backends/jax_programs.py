"""Functions of a few operations that are one program of JAX each.

Where arrays have values, JAX compiles every operation for every shape, and calls it: a
layer of a new shape was a hundred programs. These functions are one. Within a trace
they are as if they were written there.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kfac_backends import jax_lapack
from kfac_backends.jax_inverse import cholesky_in_panels, inverse_from_cholesky

_one_program = partial(jax.jit, inline=True)


@_one_program
def is_finite(x: Any) -> Any:
    """Return whether the sum of all entries times zero is finite."""
    return jnp.isfinite(jnp.sum(x * 0))


@_one_program
def damp(a: Any, damping: Any) -> Any:
    """Return ``a + damping * I``, ``[..., n, n]``."""
    return a + damping * jnp.eye(a.shape[-1], dtype=a.dtype)


@_one_program
def damped_inverse(a: Any, damping: Any) -> Any:
    """Return the inverse of ``a + damping * I``, ``[..., n, n]``; NaN if none."""
    return jax_lapack.inverse(damp(a, damping))


@_one_program
def diagonal(a: Any) -> Any:
    """Return the diagonal ``[..., n]`` of ``[..., n, n]``."""
    # A sum of these is one loop for XLA; of entries that it has to gather, three.
    return jnp.where(jnp.eye(a.shape[-1], dtype=bool), a, 0).sum(-1)


@_one_program
def eigh(a: Any) -> tuple[Any, Any]:
    """Return the eigendecomposition of ``[..., n, n]``; NaN for what is not finite."""
    finite = jnp.isfinite(a).all((-2, -1))[..., None]
    # LAPACK returns some finite eigenvalues for a matrix with one NaN.
    values, vectors = jnp.linalg.eigh(
        jnp.where(finite[..., None], a, 0.0), symmetrize_input=False
    )
    return (
        jnp.where(finite, values, jnp.nan),
        jnp.where(finite[..., None], vectors, jnp.nan),
    )


@partial(_one_program, static_argnames="on_cpu")
def cholesky(a: Any, *, on_cpu: bool) -> Any:
    """Return the lower factor of ``[..., n, n]``; all NaN where there is none."""
    if on_cpu and jax_lapack.inverts(a):
        return jax_lapack.cholesky(a)
    if on_cpu:
        factor = cholesky_in_panels(a)
    else:
        factor = jnp.linalg.cholesky(a, symmetrize_input=False)
    pivots = jnp.diagonal(factor, axis1=-2, axis2=-1)
    ok = (jnp.isfinite(pivots) & (pivots > 0)).all(-1)[..., None, None]
    return jnp.where(ok, factor, jnp.nan)


@partial(_one_program, static_argnames="on_cpu")
def cholesky_inverse(factor: Any, *, on_cpu: bool) -> Any:
    """Return ``inv(L @ L.T)`` of lower ``L``, ``[..., n, n]``."""
    by_lapack = on_cpu and jax_lapack.inverts(factor)
    return (jax_lapack.inverse_from if by_lapack else inverse_from_cholesky)(factor)
