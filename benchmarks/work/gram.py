"""Second moments of rows: Gram matrices, and the factor that averages them."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import blas

import kfac_core as kc
from benchmarks.cases import Case, Rivals, agree, normal
from benchmarks.libraries import Library
from benchmarks.measuring import Call
from benchmarks.peers import kfac_pytorch_style as style

GROUP = "Second moments of rows"


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return the cases: many rows, fewer than columns, and few of a wide layer.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases.
    """
    rows, width = (256, 64) if quick else (4096, 1024)
    for dtype in (np.float32, np.float64):
        name = f"Gram matrix, {rows}×{width}, {np.dtype(dtype).name}"
        yield Case(GROUP, name, partial(_gram, library, rows, width, dtype))
    fewer = (32, 64) if quick else (128, 512)
    for sizes, has_bias in itertools.product([(rows, width), fewer], (False, True)):
        name = f"update_cov, {sizes[0]}×{sizes[1]}{', bias' * has_bias}"
        yield Case(GROUP, name, partial(_update, library, *sizes, has_bias))
    rows, width = (8, 256) if quick else (32, 4096)
    name = f"update_cov, {rows}×{width}"
    yield Case(GROUP, name, partial(_update, library, rows, width, False))


def syrk(values: np.ndarray) -> Call:
    """Return SYRK of SciPy's BLAS: half of a product, one triangle of the result."""
    function = blas.get_blas_funcs("syrk", (values,))
    return lambda: function(1.0, values.T)


def _gram(library: Library, rows: int, width: int, dtype: Any) -> Rivals:
    values = normal(rows, width, dtype=dtype)
    x = library.array(values)
    ours = library.call(kc.backend_of(x).gram, x)
    product = library.call(lambda x: x.T @ x, x)
    agree("a.T @ a", ours(), product())
    return Rivals(ours, {"SYRK": syrk(values)}, {"a.T @ a": product})


def _update(library: Library, rows: int, width: int, has_bias: bool) -> Rivals:
    values = normal(rows, width)
    x = library.array(values)
    xp = kc.backend_of(x).xp
    factor = kc.blocks.FullyConnectedKFACBasicFB(
        width, 1, has_bias=has_bias
    ).input_factor
    state = library.once(factor.update_cov, factor.init(like=x), x, 0.95)
    ours = library.call(lambda s, x: factor.update_cov(s, x, 0.95), state, x)
    old = xp.zeros((factor.dimension, factor.dimension), dtype=x.dtype)

    def peers(old: Any, x: Any) -> Any:
        return 0.95 * old + style.second_moment(xp, x, has_bias)

    other = library.call(peers, old, x)
    agree("a.T @ (a / rows)", factor.get_cov(state), other())
    floors = {"SYRK": syrk(values)}
    if 16 * rows < width:
        floors = {"one copy": library.call(lambda a: a + 1, old)}
    return Rivals(ours, floors, {"a.T @ (a / rows), average": other})
