"""What it costs on few cores that NumPy and SciPy have threads of their own.

Run as ``python -m benchmarks.threads``: for each size the wall time, in microseconds,
that an inverse of a damped matrix adds to a product of NumPy's before it, by SciPy's
potrf and potri, and by ``kfac_core``. With OMP_NUM_THREADS=1 they cost the same. It is
why ``kfac_backends.numpy_inverse`` has a Cholesky factorisation of its own.
"""

import time
from collections.abc import Callable

import numpy as np

from benchmarks.libraries.lapack import mirrored_potri
from kfac_backends.numpy import backend

ROWS, TURNS = 4096, 10


def microseconds(functions: list[Callable[[], object]]) -> list[float]:
    """Return the median wall time of each function, all called in turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(1 + TURNS):
        for function, own in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            own.append(time.perf_counter() - began)
    return [float(np.median(own[1:])) * 1e6 for own in times]


def main() -> None:
    """Measure and print the table."""
    rng, damping = np.random.default_rng(0), np.float64(1)
    print(f"{'size':>5} {'product':>9} {'+ potri':>9} {'+ kfac_core':>12}")
    for size in (16, 64, 128, 256, 512):
        rows = rng.standard_normal((ROWS, size))
        matrix = rows.T @ rows

        def product(rows: np.ndarray = rows) -> object:
            return rows.T @ rows

        def by_potri(a: np.ndarray = matrix, before: object = product) -> object:
            return before(), mirrored_potri(backend.damp(a, damping))

        def by_panels(a: np.ndarray = matrix, before: object = product) -> object:
            return before(), backend.damped_inverse(a, damping)

        alone, potri, ours = microseconds([product, by_potri, by_panels])
        print(f"{size:>5} {alone:>9.0f} {potri - alone:>9.0f} {ours - alone:>12.0f}")


if __name__ == "__main__":
    main()
