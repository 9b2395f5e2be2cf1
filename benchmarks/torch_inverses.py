"""What makes the inverse of a matrix, by size: SciPy, or LAPACK as PyTorch has it.

Run as ``OMP_NUM_THREADS=1 python -m benchmarks.torch_inverses``, or with 2: for each
size the least time of a damped inverse, in microseconds (processor time on one thread,
wall time on several). ``torch`` is Cholesky and ``cholesky_inverse`` as they are; ``one
copy`` is what `kfac_backends.torch_lapack` makes of them. The constants there come from
this table, and the largest size that one thread is enough for.
"""

from functools import partial

import torch

from benchmarks.measuring import Pace, clock_of, least
from kfac_backends import torch_lapack
from kfac_backends.numpy import backend as on_host
from kfac_backends.torch_memory import by_numpy

SIZES = (16, 64, 65, 96, 128, 145, 192, 256, 257, 384, 512, 513, 768, 1024, 1025)
PACE = Pace(turn=0.02, turns=7, seconds=0.0)


def inverse(a: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """Return what PyTorch's two functions do."""
    damped = a.clone()
    damped.diagonal().add_(damping)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped)).mT.contiguous()


def main() -> None:
    """Measure and print the table."""
    clock = clock_of(torch.get_num_threads())
    print(f"{'size':>5} {'SciPy':>8} {'torch':>8} {'one copy':>9}")
    for size in SIZES:
        rows = torch.randn(4 * size, size, generator=torch.Generator().manual_seed(0))
        a, damping = rows.mT @ rows / (4 * size), torch.tensor(0.1)
        calls = {
            "SciPy": partial(by_numpy, on_host.damped_inverse, a, damping),
            "torch": partial(inverse, a, damping),
            "one copy": partial(torch_lapack.damped_inverse, a, damping),
        }
        times = [seconds * 1e6 for seconds in least(calls, clock, PACE).values()]
        print(f"{size:>5} {times[0]:>8.0f} {times[1]:>8.0f} {times[2]:>9.0f}")


if __name__ == "__main__":
    main()
