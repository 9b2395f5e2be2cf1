"""The second moment of a convolution's patches against the ways to it that are known.

``python benchmarks/convolution.py [--quick] [--json FILE]``

For every library that is installed, in one process, on one thread of the CPU: the
processor time of `patch_second_moment` in milliseconds, the plan that it chose, and how
many times as long the others take: the library's own patches and their product, the
product of patches that lie there already, and slices stacked to patches, with their
Gram matrix, all cases at once or one at a time. Operations take turns, and the least of
each counts. JAX is compiled; NumPy and PyTorch run as they are. In the last column the
peak of the memory beyond inputs and result, as a multiple of the inputs: for NumPy
by tracemalloc, for PyTorch by its profiler's records, for JAX as its compiler plans it.
"""

import argparse
import json
import math
import os
import time
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from kfac_core import backend_of
from kfac_core.statistics.convolution import (
    patch_rows,
    patch_second_moment,
    planned_moment,
)
from kfac_core.statistics.convolution_cost import Plan, choose_plan
from kfac_core.statistics.convolution_geometry import ConvolutionGeometry

Call = Callable[[], Any]
Function = Callable[[Any], Any]
OURS = "kfac_core"


class Layer(NamedTuple):
    """A convolution and its inputs, ``SAME`` in padding."""

    kernel: int
    stride: int
    shape: tuple[int, int, int, int]

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel}/{self.stride} {self.shape}"

    @property
    def geometry(self) -> ConvolutionGeometry:
        """Where it looks."""
        pair = (self.kernel, self.kernel)
        return ConvolutionGeometry(pair, (self.stride,) * 2, (1, 1), "SAME")


LAYERS = [
    Layer(3, 1, (8, 56, 56, 64)),
    Layer(3, 1, (8, 56, 56, 128)),
    Layer(3, 1, (32, 28, 28, 64)),
    Layer(3, 1, (16, 28, 28, 128)),
    Layer(5, 1, (32, 32, 32, 32)),
    Layer(3, 2, (8, 56, 56, 64)),
    Layer(3, 2, (16, 28, 28, 128)),
    Layer(7, 2, (8, 224, 224, 3)),
    Layer(3, 1, (32, 7, 7, 512)),
]


class Library(NamedTuple):
    """What the benchmark needs of a library beyond the standard."""

    array: Callable[[np.ndarray], Any]
    unfold: Callable[[Any, Layer], Any] | None
    peak: Callable[[Function, Any], float]
    compiled: Callable[[Function], Function] = lambda f: f
    wait: Callable[[Any], Any] = lambda x: x


def numpy_library() -> Library:
    """NumPy, which has no patches of its own."""

    def peak(function: Function, x: np.ndarray) -> float:
        tracemalloc.start()
        result = function(x)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most - result.nbytes

    return Library(np.asarray, None, peak)


def torch_library() -> Library:
    """PyTorch, eager; its patches are those of ``F.unfold``."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(1)

    def unfold(x: Any, layer: Layer) -> Any:
        # As PyTorch stores images, channels first; the padding is symmetric.
        width = layer.kernel // 2
        columns = torch.nn.functional.unfold(
            x.permute(0, 3, 1, 2), layer.kernel, padding=width, stride=layer.stride
        )
        return torch.einsum("nil,njl->ij", columns, columns)

    def peak(function: Function, x: Any) -> float:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
            result = function(x)
        now = most = 0
        for event in records.profiler.kineto_results.events():
            if event.name() == "[memory]":
                now += event.nbytes()
                most = max(most, now)
        return most - result.nbytes

    return Library(torch.from_numpy, unfold, peak)


def jax_library() -> Library:
    """JAX, compiled; its patches are those of ``conv_general_dilated_patches``."""
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("XLA_FLAGS", flags)
    import jax
    import jax.numpy as jnp

    def unfold(x: Any, layer: Layer) -> Any:
        patches = jax.lax.conv_general_dilated_patches(
            x,
            (layer.kernel,) * 2,
            (layer.stride,) * 2,
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        rows = patches.reshape(-1, patches.shape[-1])
        return rows.T @ rows

    def peak(function: Function, x: Any) -> float:
        compiled = jax.jit(function).lower(x).compile()
        return float(compiled.memory_analysis().temp_size_in_bytes)

    return Library(jnp.asarray, unfold, peak, jax.jit, jax.block_until_ready)


LIBRARIES = {"numpy": numpy_library, "torch": torch_library, "jax": jax_library}


def calls(library: Library, layer: Layer, x: Any) -> dict[str, Call]:
    """Return our own call and those of the others, by name."""
    backend, geometry = backend_of(x), layer.geometry
    rows = patch_rows(backend, x, geometry)
    rows = backend.xp.reshape(rows, (-1, rows.shape[-1]))
    count = rows.shape[0]

    def bound(function: Function, argument: Any) -> Call:
        compiled = library.compiled(function)
        return lambda: library.wait(compiled(argument))

    def patches(cases: int) -> Function:
        return lambda x: planned_moment(backend, x, geometry, Plan(0, cases), count)

    ours = {OURS: bound(lambda x: patch_second_moment(backend, [x], geometry), x)}
    if library.unfold is not None:
        ours["unfold + product"] = bound(lambda x: library.unfold(x, layer), x)
    return ours | {
        "product alone": bound(lambda rows: rows.T @ rows, rows),
        "slices + gram": bound(patches(x.shape[0]), x),
        "one by one": bound(patches(1), x),
    }


def timed(call: Call, repeats: int) -> float:
    """Return the processor time of one of several calls."""
    began = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - began) / repeats


def measure(timed_calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the least processor time of each call, called in turns."""
    # The clock of the processor may tick slowly: each turn takes 50 ms or more.
    repeats = {}
    for name, call in timed_calls.items():
        call()  # compiles
        repeats[name] = math.ceil(0.05 / max(timed(call, 1), 0.001))
    best = dict.fromkeys(timed_calls, math.inf)
    for _ in range(rounds):
        for name, call in timed_calls.items():
            best[name] = min(best[name], timed(call, repeats[name]))
    return best


def main() -> None:
    """Measure, print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one case, once")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results = []
    print(f"{'':6} {'layer':26}{'ms':>7}  times as long: the others; memory / inputs")
    for name in filter(find_spec, LIBRARIES):
        library = LIBRARIES[name]()
        for layer in LAYERS:
            if options.quick:
                layer = layer._replace(shape=(1, *layer.shape[1:]))
            values = np.random.default_rng(0).standard_normal(layer.shape, np.float32)
            x = library.array(values)
            backend, geometry = backend_of(x), layer.geometry
            plan = choose_plan(geometry, layer.shape, 4, traced=name == "jax")
            times = measure(calls(library, layer, x), 1 if options.quick else 6)
            peak = library.peak(
                lambda x, b=backend, g=geometry: patch_second_moment(b, [x], g), x
            )
            ours = times[OURS]
            print(f"{name:6} {layer!s:26}{ours * 1e3:7.1f}", end="")
            for other, seconds in [*times.items()][1:]:
                print(f"  {other} {seconds / ours:.1f}", end="")
            print(f"  memory {peak / values.nbytes:.1f} {tuple(plan)}", flush=True)
            results.append({"library": name, "layer": layer, "seconds": times})
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), "utf-8")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
