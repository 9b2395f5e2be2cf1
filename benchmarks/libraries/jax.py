"""JAX, compiled, on the CPU."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.libraries.base import Convolution, Function, Library


def settle() -> None:
    """Allow float64 for those who ask for it."""
    jax.config.update("jax_enable_x64", True)


def jax_library() -> Library:
    """Return JAX."""
    return Library(
        "jax",
        ("jax", "jaxlib", "numpy", "scipy", "kfac-jax"),
        jnp.array,
        jnp.linalg.inv,
        jnp.linalg.eigh,
        triangular_solves,
        {
            "Cholesky, two triangular solves": triangular_solves,
            "Cholesky, triangle inverted, product": inverted_triangle,
        },
        lambda ids, size: jax.nn.one_hot(ids, size, dtype=jnp.float32),
        lambda ids, size: jnp.bincount(ids, length=size).astype(jnp.float32),
        patches,
        "lax patches",
        peak,
        compiled=jax.jit,
        wait=jax.block_until_ready,
    )


def triangular_solves(a: Any) -> Any:
    """Return the inverse by two triangular solves: JAX has no potri."""
    factor = jax.scipy.linalg.cho_factor(a, lower=True)
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(len(a), dtype=a.dtype))


def inverted_triangle(a: Any) -> Any:
    """Return the inverse by one triangular solve, and the product of what it gives."""
    eye = jnp.eye(len(a), dtype=a.dtype)
    factor = jnp.linalg.cholesky(a)
    inverse = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    return inverse.T @ inverse


def patches(x: Any, layer: Convolution) -> Any:
    """Return the patches of ``lax.conv_general_dilated_patches`` as rows."""
    found = jax.lax.conv_general_dilated_patches(
        x,
        (layer.kernel,) * 2,
        (layer.stride,) * 2,
        layer.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return found.reshape(-1, found.shape[-1])


def peak(function: Function, x: Any) -> float:
    """Return what the compiler plans: for the result, and beside it."""
    plan = jax.jit(function).lower(x).compile().memory_analysis()
    return float(plan.temp_size_in_bytes + plan.output_size_in_bytes)
