"""Fewer rows than columns: inverses by Woodbury's identity, and whole ones."""

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import kfac_core as kc
from benchmarks.cases import Case, Rivals, UnavailableError, agree, normal
from benchmarks.libraries import Library

GROUP = "Few rows, wide layer"
DAMPING = 0.1


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return one step of a wide layer.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The case.
    """
    rows, width = (8, 64) if quick else (256, 8192)
    name = f"statistics, inverse, product: {rows} rows of {width}"
    yield Case(GROUP, name, partial(_step, library, rows, width))


def _step(library: Library, rows: int, width: int) -> Rivals:
    if "input_max_rows" not in {
        f.name for f in fields(kc.blocks.FullyConnectedKFACBasicFB)
    }:
        msg = "FullyConnectedKFACBasicFB has no input_max_rows"
        raise UnavailableError(msg)
    outputs = 16
    x, g = library.array(normal(rows, width)), library.array(normal(rows, outputs))
    v = library.array(normal(width, outputs))

    def step_of(block: kc.blocks.FullyConnectedKFACBasicFB) -> Any:
        def step(state: Any, x: Any, g: Any, v: Any) -> Any:
            # It keeps this batch alone, so that both factors have the same matrix.
            state = block.update_covs(state, x, g, 0.0)
            state = block.update_inverses(state, DAMPING)
            return block.multiply_inverse(state, v)

        return library.call(step, block.init(like=x), x, g, v)

    thin = kc.blocks.FullyConnectedKFACBasicFB(width, outputs, input_max_rows=rows)
    ours, dense = (
        step_of(thin),
        step_of(kc.blocks.FullyConnectedKFACBasicFB(width, outputs)),
    )
    agree("the whole matrix", ours(), dense(), bound=1e-2)
    gram = library.call(lambda x: x @ x.T, x)
    return Rivals(ours, {"x @ x.T": gram}, {"the same of the whole matrix": dense})
