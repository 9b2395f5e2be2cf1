"""What the benchmarks need of each array library beyond the standard."""

from benchmarks.libraries.base import Library

NAMES = ("numpy", "torch", "jax")


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
