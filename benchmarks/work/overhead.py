"""What is not arithmetic: the verbs of a layer so small that nothing else is left."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import kfac_core as kc
from benchmarks.cases import Case, Rivals, normal
from benchmarks.libraries import Library
from benchmarks.libraries.base import as_is
from benchmarks.peers import kfac_pytorch_style as style

GROUP = "Overhead"
ROWS, SIZE = 32, 16
VERBS = ("update_covs", "update_inverses", "multiply_inverse")


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return the three verbs of a small layer.

    Args:
        library: The library.
        quick: Ignored: it is small.

    Yields:
        The cases.
    """
    for verb in VERBS:
        name = f"{verb}, {ROWS}×{SIZE}"
        yield Case(GROUP, name, partial(_verb, library, verb, as_is))
        if library.compiled is as_is:
            name = f"{verb}, {ROWS}×{SIZE}, prepared"
            yield Case(GROUP, name, partial(_verb, library, verb, kc.prepared))


def _verb(library: Library, verb: str, prepare: Any) -> Rivals:
    x, v = library.array(normal(ROWS, SIZE)), library.array(normal(SIZE, SIZE))
    xp = kc.backend_of(x).xp
    block = kc.blocks.FullyConnectedKFACBasicFB(SIZE, SIZE)
    state = library.once(block.update_covs, block.init(like=x), x, x, 0.95)
    state = library.once(block.update_inverses, state, 0.1)
    a, b = (style.damped(xp, library.array(np.eye(SIZE, dtype=np.float32)), 1.0),) * 2

    def update_covs(a: Any, b: Any, x: Any) -> Any:
        return 0.95 * a + x.T @ x / ROWS, 0.95 * b + x.T @ x / ROWS

    def update_inverses(a: Any, b: Any) -> Any:
        a, b = style.damped(xp, a, 0.1), style.damped(xp, b, 0.1)
        return library.cholesky_inverse(a), library.cholesky_inverse(b)

    covs, inverses, multiply = (prepare(getattr(block, name)) for name in VERBS)
    of_ours = {
        "update_covs": lambda: (lambda s, x: covs(s, x, x, 0.95), state, x),
        "update_inverses": lambda: (lambda s: inverses(s, 0.1), state),
        "multiply_inverse": lambda: (multiply, state, v),
    }
    bare = {
        "update_covs": lambda: (update_covs, a, b, x),
        "update_inverses": lambda: (update_inverses, a, b),
        "multiply_inverse": lambda: (lambda a, v, b: a @ v @ b, a, v, b),
    }
    floors = {"the arithmetic, written out": library.call(*bare[verb]())}
    if library.compiled is not as_is:
        # A result that no argument is, lest the call be left out.
        empty = library.call(lambda s, v: (s, v + 1), state, v)
        floors["a compiled call of the same arrays"] = empty
    return Rivals(library.call(*of_ours[verb]()), floors, {})
