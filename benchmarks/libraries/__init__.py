"""What the benchmarks need of each array library beyond the standard."""

from benchmarks.libraries.base import Library

NAMES = ("numpy", "torch", "jax")


def settle(name: str) -> None:
    """Set what holds for a whole process, which is to measure this library alone."""
    if name == "torch":
        from benchmarks.libraries import torch

        torch.settle()
    if name == "jax":
        from benchmarks.libraries import jax

        jax.settle()


def load(name: str) -> Library:
    """Return a library by name, which imports it."""
    if name == "numpy":
        from benchmarks.libraries.numpy import numpy_library

        return numpy_library()
    if name == "torch":
        from benchmarks.libraries.torch import torch_library

        return torch_library()
    from benchmarks.libraries.jax import jax_library

    return jax_library()
