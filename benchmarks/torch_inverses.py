"""What makes the inverse of a matrix, by size: SciPy, or LAPACK as PyTorch has it.

Run as ``OMP_NUM_THREADS=1 python -m benchmarks.torch_inverses``, or with 2: for each
size the least time of a damped inverse, in microseconds (processor time on one thread,
wall time on several). ``torch`` is Cholesky and ``cholesky_inverse`` as they are; ``one
copy`` is what `kfac_backends.torch_lapack` makes of them. The constants there come from
this table, and the largest size that one thread is enough for.
"""

import time
from collections.abc import Callable

import torch

from benchmarks.measuring import clock_of
from kfac_backends import torch_lapack
from kfac_backends.numpy import backend as on_host
from kfac_backends.torch_memory import by_numpy

SIZES = (16, 64, 65, 96, 128, 145, 192, 256, 257, 384, 512, 513, 768, 1024, 1025)
SECONDS, TURNS = 0.02, 7


def inverse(a: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """Return what PyTorch's two functions do."""
    damped = a.clone()
    damped.diagonal().add_(damping)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped)).mT.contiguous()


def microseconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the least time of a call."""
    call()
    began = time.perf_counter()
    call()
    repeats = 1 + int(SECONDS / (time.perf_counter() - began))
    found = []
    for _ in range(TURNS):
        began = clock()
        for _ in range(repeats):
            call()
        found.append((clock() - began) / repeats)
    return min(found) * 1e6


def main() -> None:
    """Measure and print the table."""
    clock = clock_of(torch.get_num_threads())
    print(f"{'size':>5} {'SciPy':>8} {'torch':>8} {'one copy':>9}")
    for size in SIZES:
        rows = torch.randn(4 * size, size, generator=torch.Generator().manual_seed(0))
        a, damping = rows.mT @ rows / (4 * size), torch.tensor(0.1)
        times = [
            microseconds(lambda a=a, d=damping, f=function: f(a, d), clock)
            for function in (
                lambda a, d: by_numpy(on_host.damped_inverse, a, d),
                inverse,
                torch_lapack.damped_inverse,
            )
        ]
        print(f"{size:>5} {times[0]:>8.0f} {times[1]:>8.0f} {times[2]:>9.0f}")


if __name__ == "__main__":
    main()
