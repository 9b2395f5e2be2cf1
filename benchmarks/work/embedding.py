"""Embeddings: statistics of ids, and products with some rows alone."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import kfac_core as kc
from benchmarks.cases import Case, Rivals, agree, normal, rng
from benchmarks.libraries import Library

GROUP = "Embeddings"


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return the statistics of ids, and products of a batch's rows.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases.
    """
    vocabulary, rows = (500, 32) if quick else (50_000, 8192)
    name = f"update_cov, {rows} ids of {vocabulary:,}"
    yield Case(GROUP, name, partial(_update, library, vocabulary, rows))
    rows, width = (8, 4) if quick else (1024, 64)
    for vocabulary in (100, 1000) if quick else (1000, 10_000, 100_000, 1_000_000):
        name = f"inverse times {rows} rows of {vocabulary:,}, width {width}"
        yield Case(GROUP, name, partial(_rows, library, vocabulary, rows, width))


def ids_of(library: Library, rows: int, vocabulary: int) -> Any:
    """Return random ids."""
    return library.array(rng().integers(0, vocabulary, rows))


def update_call(library: Library, vocabulary: int, rows: int) -> tuple[Any, Any]:
    """Return the call that updates an embedding's input factor, and the ids."""
    ids = ids_of(library, rows, vocabulary)
    like = library.array(np.zeros(1, np.float32))
    factor = kc.blocks.EmbeddingKFACFB(vocabulary, 1).input_factor
    state = library.once(factor.update_cov, factor.init(like=like), ids, 0.95)
    return library.call(lambda s, i: factor.update_cov(s, i, 0.95), state, ids), ids


def restricted_call(
    library: Library, vocabulary: int, rows: int, width: int
) -> tuple[Any, Any, Any, Any]:
    """Return the product of some rows, the block's own, its state, and the data."""
    block = kc.blocks.EmbeddingKFACFB(vocabulary, width)
    ids, g = ids_of(library, rows, vocabulary), library.array(normal(rows, width))
    state = library.once(block.update_covs, block.init(like=g), ids, g, 0.95)
    state = library.once(block.update_inverses, state, 0.1)

    def restricted(state: Any, ids: Any, v: Any) -> Any:
        part, of_part = block.restricted(state, ids)
        return part.multiply_inverse(of_part, v)

    return library.call(restricted, state, ids, g), block, state, (ids, g)


def _update(library: Library, vocabulary: int, rows: int) -> Rivals:
    ours, ids = update_call(library, vocabulary, rows)

    def mean(old: Any, ids: Any) -> Any:
        return 0.95 * old + library.one_hot(ids, vocabulary).sum(0) / rows

    old = library.array(np.zeros(vocabulary, np.float32))
    counts = library.call(lambda i: library.count(i, vocabulary), ids)
    one_hot = library.call(mean, old, ids)
    agree("one-hot, sum", counts() / rows, one_hot())
    return Rivals(ours, {"bincount": counts}, {"one-hot, sum": one_hot})


def _rows(library: Library, vocabulary: int, rows: int, width: int) -> Rivals:
    ours, block, state, (ids, g) = restricted_call(library, vocabulary, rows, width)
    xp = kc.backend_of(g).xp
    whole = library.array(np.zeros((vocabulary, width), np.float32))
    inverse = block.output_factor.get_inverse(state.output_factor).to_dense()
    others = {
        "multiply_inverse, all rows": library.call(block.multiply_inverse, state, whole)
    }
    floors = {
        "rows taken, scaled, multiplied": library.call(
            lambda d, i, g, b: (xp.take(d, i, axis=0)[:, None] * g) @ b,
            library.array(np.ones(vocabulary, np.float32)),
            ids,
            g,
            inverse,
        )
    }
    return Rivals(ours, floors, others)
