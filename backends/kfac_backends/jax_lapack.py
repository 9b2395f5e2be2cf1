"""JAX: inverses on the CPU by LAPACK, called on arrays as they lie in memory.

LAPACK reads by columns, and sees the transpose of an array that is kept by rows: lower
``L`` is an upper ``U = L.T``, and ``X`` with ``L X = B`` is the transpose of ``Y`` with
``Y U = B.T``. JAX's own functions copy each array into the other order, and back. XLA
compiles a loop for every copy, in 20 to 60 ms, and another one for every other shape; a
product or a call of LAPACK takes it one. So the calls here name what is in memory, and
nothing is copied but what LAPACK is to see apart.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kfac_backends.jax_inverse import inverse_from_cholesky
from kfac_core.typing import Array

COLUMNS = 640
"""Number of columns up to which a matrix is inverted here; see `jax_inverse`."""
HALVED_FROM = 96
"""Number of columns from which the zeros of half of a triangle are left out."""
_LETTERS = {"float32": "s", "float64": "d"}


def inverts(a: Any) -> bool:
    """Return whether `inverse` is for such matrices, ``[..., n, n]``."""
    return a.shape[-1] <= COLUMNS and str(a.dtype) in _LETTERS


def _inverse(a: Any) -> Array:
    """Return the inverse of a positive-definite matrix, symmetric bit for bit.

    Args:
        a: ``[..., n, n]``, symmetric, float32 or float64.

    Returns:
        ``[..., n, n]``; all NaN where there is none.
    """
    factor, found = _factor(a)
    return _inverse_where(factor, found & _is_finite(factor))


def _derivative(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return the inverse ``P``, and for a change ``D`` that of it, ``-P D P``."""
    (a,), (change,) = primals, tangents
    found = inverse(a)
    return found, -_matmul(_matmul(found, change), found)


inverse: Any = jax.custom_jvp(_inverse)
inverse.defjvp(_derivative)


def _cholesky(a: Any) -> Array:
    """Return the lower factor, with which `inverse` computes, bit for bit.

    Args:
        a: ``[..., n, n]``, of which the lower triangle is read, float32 or float64.

    Returns:
        ``[..., n, n]``; all NaN where there is none.
    """
    factor, found = _factor(a)
    lower = jnp.where(jnp.tri(a.shape[-1], k=-1, dtype=bool).mT, 0, factor)
    ok = found & _is_finite(lower)
    whole: Array = jnp.where(ok[..., None, None], lower, jnp.nan)
    return whole


def _derivative_of_factor(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return the factor, and its change by JAX's rule."""
    plain = functools.partial(jnp.linalg.cholesky, symmetrize_input=False)
    return cholesky(*primals), jax.jvp(plain, primals, tangents)[1]


cholesky: Any = jax.custom_jvp(_cholesky)
cholesky.defjvp(_derivative_of_factor)


def _inverse_from(factor: Any) -> Array:
    """Return ``inv(L @ L.T)`` of lower ``L``, as `inverse` does, bit for bit."""
    return _inverse_where(factor, _is_finite(factor))


def _derivative_from(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return the inverse, and its change by the rule of `inverse_from_cholesky`."""
    changed = jax.jvp(inverse_from_cholesky, primals, tangents)[1]
    return inverse_from(*primals), changed


inverse_from: Any = jax.custom_jvp(_inverse_from)
inverse_from.defjvp(_derivative_from)


def _inverse_where(factor: Any, ok: Any) -> Array:
    """Return the inverse by a factor, or NaN.

    With ``X = inv(L)`` it is ``X.T @ X``. The columns in the right half of ``X`` begin
    with zeros, which neither the solutions nor the products see.

    Args:
        factor: ``[..., n, n]``, lower ``L``, and anything above its diagonal.
        ok: ``[...]``, whether it is one.
    """
    n = factor.shape[-1]
    if n < HALVED_FROM:
        root = _inverted(factor, 0, n)
        square = _matmul(root.mT, root)
    else:
        square = _by_halves(factor)
    # The lower triangle is mirrored, which `_by_halves` fills.
    lower = jnp.tri(n, k=-1, dtype=bool)
    whole = jnp.where(lower.mT, square.mT, square)
    found: Array = jnp.where(ok[..., None, None], whole, jnp.nan)
    return found


def _is_finite(factor: Any) -> Any:
    return jnp.isfinite((factor * 0).sum((-2, -1)))


def _by_halves(factor: Any) -> Any:
    """Return ``inv(L @ L.T)`` on the diagonal and below it; zeros in a part above."""
    n = factor.shape[-1]
    h = n // 2 + -(n // 2) % 8  # products of odd shapes are slower
    left, right = _inverted(factor, 0, h), _inverted(factor, h, n - h)
    below, own = _matmul(right.mT, left[..., h:, :]), _matmul(right.mT, right)
    zeros = jnp.zeros((*factor.shape[:-2], h, n - h), factor.dtype)
    upper = jnp.concatenate([_matmul(left.mT, left), zeros], -1)
    return jnp.concatenate([upper, jnp.concatenate([below, own], -1)], -2)


def _factor(a: Any) -> tuple[Any, Any]:
    """Return lower ``L``, with anything above its diagonal, and if LAPACK found it."""
    _load()
    numbers = jax.ShapeDtypeStruct(a.shape[:-2], jnp.int32)
    call = _call("potrf", (jax.ShapeDtypeStruct(a.shape, a.dtype), numbers), 0)
    factor, info = call(a, uplo=_letter("U"))
    # LAPACK tells of a pivot that is not positive. Above the factor the matrix is left.
    return factor, info == 0


def _inverted(factor: Any, start: int, columns: int) -> Any:
    """Return some columns of ``inv(L)``, from the row on in which they begin."""
    _load()
    own = factor[..., start:, start:] if start else factor
    rows, lead = own.shape[-1], own.shape[:-2]
    eye = jnp.broadcast_to(
        jnp.eye(columns, rows, dtype=own.dtype), (*lead, columns, rows)
    )
    if rows != columns:
        # The memory of `[rows, columns]`, which LAPACK is told to read by columns.
        eye = jnp.eye(rows, columns, dtype=own.dtype).reshape(columns, rows)
        eye = jnp.broadcast_to(eye, (*lead, columns, rows))
    call = _call("trsm", jax.ShapeDtypeStruct(eye.shape, eye.dtype), 1)
    found = call(
        own,
        eye,
        side=_letter("R"),
        uplo=_letter("U"),
        trans_x=_letter("N"),
        diag=_letter("N"),
    )
    return found.reshape(*lead, rows, columns)


def _call(name: str, results: Any, overwritten: int) -> Any:
    """Return a function of JAX's LAPACK whose first result is in place of an array."""
    first = results[0] if isinstance(results, tuple) else results
    return jax.ffi.ffi_call(
        f"lapack_{_LETTERS[str(first.dtype)]}{name}_ffi",
        results,
        vmap_method="broadcast_all",
        input_output_aliases={overwritten: 0},
    )


def _letter(option: str) -> Any:
    return np.uint8(ord(option))


def _matmul(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")


@functools.cache
def _load() -> None:
    """Let JAX look up LAPACK, which it does where it lowers a call of its own."""
    with jax.ensure_compile_time_eval():
        jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), jnp.float32))
