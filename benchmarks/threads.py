"""What it costs on few cores that NumPy and SciPy have threads of their own.

Run as ``python benchmarks/threads.py``: for each size the wall time, in microseconds,
that an inverse from a Cholesky factor adds to a product of NumPy's before it, by potri
and by trtri and SYRK. With OMP_NUM_THREADS=1 the difference is gone. It is why
``kfac_backends.numpy`` inverts small matrices by the second.
"""

import time
from collections.abc import Callable

import numpy as np
from scipy.linalg import lapack

ROWS, REPEATS = 4096, 30


def microseconds(function: Callable[[], object]) -> float:
    """Return the mean wall time of a call."""
    function()
    began = time.perf_counter()
    for _ in range(REPEATS):
        function()
    return (time.perf_counter() - began) / REPEATS * 1e6


def main() -> None:
    """Measure and print the table."""
    rng = np.random.default_rng(0)
    print(f"{'size':>5} {'product':>9} {'+ potri':>9} {'+ trtri, SYRK':>14}")
    for size in (16, 32, 64, 96, 128, 256):
        rows = rng.standard_normal((ROWS, size))
        upper = np.linalg.cholesky(rows.T @ rows).T

        def product(rows: np.ndarray = rows) -> object:
            return rows.T @ rows

        def by_potri(upper: np.ndarray = upper, before: object = product) -> object:
            return before(), lapack.dpotri(upper, lower=False)

        def by_trtri(upper: np.ndarray = upper, before: object = product) -> object:
            root, _ = lapack.dtrtri(upper, lower=False)
            return before(), root @ root.T

        alone = microseconds(product)
        added = (microseconds(f) - alone for f in (by_potri, by_trtri))
        print(f"{size:>5} {alone:>9.0f} {next(added):>9.0f} {next(added):>14.0f}")


if __name__ == "__main__":
    main()
