"""Each operation against its floor: what its library needs for the arithmetic alone.

``python benchmarks/factors.py [--quick] [--json FILE]``

For every library that is installed, in one process, on one thread of the CPU: the time
of the operation, and its ratio to the time of each floor, by the clock and by the
processor. Ratios compare across machines, times do not. Operation and floors take
turns, and the least of each counts. JAX is compiled; NumPy and PyTorch run as they are.
The floor of a Gram matrix is SYRK, half of a product: that of SciPy's BLAS, for all.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import blas, lapack
from threadpoolctl import threadpool_limits

import kfac_core as kc

Call = Callable[[], Any]
OURS = "kfac_core"


class Library(NamedTuple):
    """What the benchmark needs of a library beyond the standard."""

    array: Callable[[np.ndarray], Any]
    inverse: Callable[[Any], Any]
    eigh: Callable[[Any], Any]
    cholesky_inverse: Callable[[Any], Any]
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda f: f
    wait: Callable[[Any], Any] = lambda x: x


def numpy_library() -> Library:
    """NumPy, with LAPACK through SciPy."""
    factor, inverse = lapack.spotrf, lapack.spotri
    return Library(
        np.asarray,
        np.linalg.inv,
        np.linalg.eigh,
        lambda a: inverse(factor(a.T)[0])[0],  # Fortran's order: no more copies
    )


def torch_library() -> Library:
    """PyTorch, eager."""
    import torch

    torch.set_num_threads(1)
    factor, inverse = torch.linalg.cholesky, torch.cholesky_inverse
    return Library(
        torch.from_numpy,
        torch.linalg.inv,
        torch.linalg.eigh,
        lambda a: inverse(factor(a)),
    )


def jax_library() -> Library:
    """JAX, compiled."""
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("XLA_FLAGS", flags)
    import jax
    import jax.numpy as jnp

    def potri(a: Any) -> Any:
        factor = jax.scipy.linalg.cho_factor(a, lower=True)
        return jax.scipy.linalg.cho_solve(factor, jnp.eye(len(a), dtype=a.dtype))

    jax.config.update("jax_enable_x64", True)
    return Library(
        jnp.asarray,
        jnp.linalg.inv,
        jnp.linalg.eigh,
        potri,
        jax.jit,
        jax.block_until_ready,
    )


LIBRARIES = {"numpy": numpy_library, "torch": torch_library, "jax": jax_library}


def cases(library: Library, rows: int, n: int) -> dict[str, dict[str, Call]]:
    """Return for each operation its own call and those of its floors, by name."""
    rng = np.random.default_rng(0)

    def bound(function: Callable[..., Any], *arguments: Any) -> Call:
        compiled = library.compiled(function)
        return lambda: library.wait(compiled(*arguments))

    def gram(dtype: Any) -> dict[str, Call]:
        values = rng.standard_normal((rows, n), dtype=dtype)
        x, syrk = library.array(values), blas.get_blas_funcs("syrk", (values,))
        return {
            OURS: bound(kc.backend_of(x).gram, x),
            "x.T @ x": bound(lambda x: x.T @ x, x),
            "SYRK": lambda: syrk(1.0, values.T),
        }

    x = library.array(rng.standard_normal((rows, n), dtype=np.float32))
    v = library.array(rng.standard_normal((n, n), dtype=np.float32))
    block = kc.FullyConnectedKFACBasicFB(n, n)
    factor = block.input_factor
    known = block.update_covs(block.init(like=x), x, x, 0.95)
    known = block.update_inverses(known, 0.1)
    state = known.input_factor
    biased = kc.FullyConnectedKFACBasicFB(n, n, has_bias=True).input_factor
    with_bias = biased.update_cov(biased.init(like=x), x, 0.95)
    damped = factor.get_matpower(state, 1).to_dense()
    return {
        f"gram {rows} x {n}": gram(np.float32),
        f"gram {rows} x {n}, float64": gram(np.float64),
        f"update_cov {rows} x {n}": {
            OURS: bound(lambda s, x: factor.update_cov(s, x, 0.95), state, x),
            "gram": bound(kc.backend_of(x).gram, x),
        },
        f"update_cov {rows} x {n}, bias": {
            OURS: bound(lambda s, x: biased.update_cov(s, x, 0.95), with_bias, x),
            "gram": bound(kc.backend_of(x).gram, x),
        },
        f"update_inverses {n}": {
            OURS: bound(lambda s: factor.update_inverses(s, 0.1), state),
            "Cholesky + potri": bound(library.cholesky_inverse, damped),
            "inv": bound(library.inverse, damped),
            "eigh": bound(library.eigh, damped),
        },
        f"multiply_inverse {n} x {n}": {
            OURS: bound(block.multiply_inverse, known, v),
            "a @ v @ b": bound(lambda a, v: a @ v @ a, damped, v),
        },
    }


def timed(call: Call, repeats: int) -> tuple[float, float]:
    """Return the wall and the processor time of one of several calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / repeats, cpu / repeats


def measure(calls: dict[str, Call], seconds: float) -> dict[str, tuple[float, float]]:
    """Return the least wall and processor time of each call, called in turns."""
    for call in calls.values():
        call()  # compiles
    best = {name: timed(call, 1) for name, call in calls.items()}
    repeats = {name: max(1, int(0.002 / wall)) for name, (wall, _) in best.items()}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            times = zip(best[name], timed(call, repeats[name]), strict=True)
            best[name] = tuple(map(min, times))
    return best


def main() -> None:
    """Measure, print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    large, seconds = ((512, 128), 0.1) if options.quick else ((4096, 1024), 4.0)
    results = []
    print(f"{'':6} {'operation':30}{'us':>9}  ratio to floor: clock (processor)")
    for name in filter(find_spec, LIBRARIES):
        library = LIBRARIES[name]()
        every = cases(library, *large) | cases(library, 32, 16)
        for operation, calls in every.items():
            times = measure(calls, seconds)
            wall, cpu = times[OURS]
            print(f"{name:6} {operation:30}{wall * 1e6:9.1f}", end="")
            for floor, (w, c) in [*times.items()][1:]:
                print(f"  {floor} {wall / w:.2f} ({cpu / c:.2f})", end="")
            print(flush=True)
            results.append({"library": name, "operation": operation, "seconds": times})
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), "utf-8")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
