"""PyTorch, eager."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.libraries.base import Convolution, Function, Library


def torch_library() -> Library:
    """Return PyTorch with the threads of the environment."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_grad_enabled(False)
    return Library(
        "torch",
        ("torch", "numpy", "scipy", "curvlinops-for-pytorch", "nngeometry"),
        torch.tensor,
        torch.linalg.inv,
        torch.linalg.eigh,
        lambda a: torch.cholesky_inverse(torch.linalg.cholesky(a)),
        one_hot,
        lambda ids, size: torch.bincount(ids, minlength=size).to(torch.float32),
        patches,
        "F.unfold",
        peak,
        "NCHW",
    )


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
    """Return the peak of the allocations that the profiler recorded."""
    with (
        quiet(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records,
    ):
        result = function(x)
    now = most = 0
    for event in records.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most - result.nbytes
