"""The second moment of a convolution's patches."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases import Case, Rivals, agree, as_numpy, normal
from benchmarks.libraries import Library
from benchmarks.libraries.base import Convolution
from benchmarks.work.gram import syrk
from kfac_core import backend_of
from kfac_core.statistics.patches.second_moment import (
    patch_rows,
    patch_second_moment,
    planned_moment,
)
from kfac_core.statistics.patches.shifted.plan import Plan

GROUP = "Convolutions"
LAYERS = (
    Convolution(3, 1, (8, 56, 56, 64)),
    Convolution(3, 1, (8, 56, 56, 128)),
    Convolution(3, 1, (32, 28, 28, 64)),
    Convolution(3, 1, (16, 28, 28, 128)),
    Convolution(5, 1, (32, 32, 32, 32)),
    Convolution(3, 2, (8, 56, 56, 64)),
    Convolution(3, 2, (16, 28, 28, 128)),
    Convolution(7, 2, (8, 224, 224, 3)),
    Convolution(3, 1, (32, 7, 7, 512)),
)
QUICK = (Convolution(3, 1, (1, 8, 8, 16)), Convolution(3, 2, (1, 8, 8, 4)))


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return a case for each layer.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases.
    """
    for layer in QUICK if quick else LAYERS:
        yield Case(GROUP, str(layer), partial(_second_moment, library, layer))


def kernel_first(moment: Any, kernel: int) -> np.ndarray:
    """Return the moment of patches with channels first, kernel axes first instead.

    Args:
        moment: ``[n, n]``, of any library; a bias, last, stays where it is.
        kernel: Width of the kernel.

    Returns:
        ``[n, n]``.
    """
    moment = as_numpy(moment)
    channels, bias = divmod(len(moment), kernel**2)
    order = np.arange(channels * kernel**2).reshape(channels, -1).T.ravel()
    order = np.append(order, np.arange(len(order), len(order) + bias))
    return moment[np.ix_(order, order)]


def _second_moment(library: Library, layer: Convolution) -> Rivals:
    values = normal(*layer.shape)
    x, image = library.array(values), library.image(values)
    backend, window = backend_of(x), layer.window
    rows = patch_rows(backend, x, window)
    rows = backend.xp.reshape(rows, (-1, rows.shape[-1]))
    count = rows.shape[0]

    def product(x: Any) -> Any:
        rows = library.patches(x, layer)
        return rows.T @ rows

    def moment(x: Any) -> Any:
        return patch_second_moment(backend, [x], window)

    def slices(x: Any) -> Any:
        return planned_moment(backend, x, window, Plan(0, x.shape[0]), count)

    ours, patches = library.call(moment, x), f"{library.patches_name}, product"
    others = {patches: library.call(product, image)}
    others["stacked slices, our Gram matrix"] = library.call(slices, x)
    theirs = kernel_first(others[patches](), layer.kernel) / count
    agree(patches, ours(), theirs)
    # Peaks beside the inputs, result included, as multiples of the inputs.
    memory = {
        "ours": library.peak(moment, x),
        patches: library.peak(product, image),
        "result": ours().nbytes,
    }
    return Rivals(
        ours,
        {
            "product": library.call(lambda a: a.T @ a, rows),
            "SYRK": syrk(np.array(as_numpy(rows))),
        },
        others,
        {name: size / values.nbytes for name, size in memory.items()},
    )
