"""Hold the factorisations of every library to LAPACK's test ratios.

``python -m benchmarks.ratios`` prints the table of ``docs/verify.md``: each library and
dtype, eager and compiled, with matrices of orders 1 to 2,048, in about half an hour.
``--orders 1 10`` takes a minute. It ends with 1 where a ratio is beyond the gate.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from kfac_core import tree
from kfac_core.theorems import Trial
from kfac_core.verify.lapack import THOROUGH, Ratio, ratios
from kfac_core.verify.libraries import opened

DTYPES = ("float64", "float32")


class Eager(Trial):
    """One operation after the other, whatever the library."""

    compiles = False


class Compiled(Trial):
    """One program for each order."""

    compiles = True

    def call(self, verb: Any, spec: Any, *arguments: Any) -> Any:
        """Return what a program computes; PyTorch's is compiled without C++."""
        if self.backend.name != "torch":
            return super().call(verb, spec, *arguments)
        given = [tree.map(self.array, own) for own in arguments]
        shapes = tuple(tuple(x.shape) for x in tree.leaves(tuple(given)))
        result = _torch_program(verb, spec, self.dtype, shapes)(*given)
        return tree.map(self.numpy, result)


@lru_cache(maxsize=1)
def _torch_program(verb: Any, spec: Any, dtype: str, shapes: Any) -> Any:
    """Return a program of PyTorch's, which compiles a function but a few times."""
    import torch

    torch._dynamo.reset()
    return torch.compile(
        lambda *arrays: verb(spec, *arrays), fullgraph=True, backend="aot_eager"
    )


WAYS = (
    ("numpy", Eager),
    ("array_api_strict", Eager),
    ("torch", Eager),
    ("torch", Compiled),
    ("jax", Eager),
    ("jax", Compiled),
)
"""Libraries, and how they compute."""


def measured(
    libraries: tuple[str, ...], orders: tuple[int, ...]
) -> Iterator[tuple[str, list[Ratio]]]:
    """Yield the name of each way and dtype, with the largest ratios."""
    for name, way in WAYS:
        if name not in libraries:
            continue
        with opened(name) as library:
            for dtype in DTYPES:
                trial = way(library.backend, dtype)
                yield (
                    f"{name}, {way.__name__.lower()}, {dtype}",
                    ratios(name, trial, orders),
                )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = tuple(dict.fromkeys(name for name, _ in WAYS))
    parser.add_argument("--library", nargs="+", choices=names, default=names)
    parser.add_argument("--orders", nargs="+", type=int, default=THOROUGH)
    options = parser.parse_args()
    header, holds = None, True
    for title, found in measured(tuple(options.library), tuple(options.orders)):
        if header is None:
            header = [own.operation for own in found]
            print("| library |", " | ".join(header), "|", flush=True)
            print("|---" + "|--:" * len(header) + "|")
        assert header == [own.operation for own in found]
        cells = " | ".join(f"{own.ratio:.2f}" for own in found)
        print(f"| {title} | {cells} |", flush=True)
        holds &= all(own.holds for own in found)
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main()
