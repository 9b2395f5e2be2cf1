"""PyTorch, eager."""

import contextlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.libraries.base import Convolution, Function, Library


def settle() -> None:
    """Set the threads to those of the environment, and record no derivatives."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_grad_enabled(False)


def torch_library() -> Library:
    """Return PyTorch."""
    return Library(
        "torch",
        ("torch", "numpy", "scipy", "curvlinops-for-pytorch", "nngeometry"),
        torch.tensor,
        torch.linalg.inv,
        torch.linalg.eigh,
        cholesky_inverse,
        {"Cholesky, cholesky_inverse": cholesky_inverse},
        one_hot,
        lambda ids, size: torch.bincount(ids, minlength=size).to(torch.float32),
        patches,
        "F.unfold",
        peak,
        "NCHW",
    )


def cholesky_inverse(a: Any) -> Any:
    """Return the inverse by PyTorch's own factorisation and potri."""
    return torch.cholesky_inverse(torch.linalg.cholesky(a))


def one_hot(ids: Any, size: int) -> Any:
    """Return a row of zeros and a one for each id."""
    return torch.zeros(len(ids), size).scatter_(1, ids[:, None], 1.0)


def patches(x: Any, layer: Convolution) -> Any:
    """Return the patches of ``F.unfold`` as rows."""
    columns = torch.nn.functional.unfold(
        x, layer.kernel, padding=layer.kernel // 2, stride=layer.stride
    )
    return columns.mT.reshape(-1, columns.shape[1])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the profiler itself writes from the terminal."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def peak(function: Function, x: Any) -> float:
    """Return the peak of PyTorch's own memory, and with it that of NumPy's.

    A tensor may have memory that NumPy asked for, which the profiler does not see and
    ``tracemalloc`` does. The two peaks of one run are added: the true one is not above
    their sum, and is the sum for a function that keeps to one kind of memory.
    """
    function(x)  # what is loaded or kept at the first call is no memory of the work
    with (
        quiet(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records,
    ):
        tracemalloc.start()
        result = function(x)
        _, of_numpy = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    del result  # only now: it is a part of both peaks
    now = most = 0
    for event in records.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most + of_numpy
