"""The work that is measured: a module for each table."""

from collections.abc import Iterator

from benchmarks.cases import Case
from benchmarks.libraries import Library
from benchmarks.work import (
    compiling_jax,
    convolution,
    embedding,
    gram,
    inverses,
    low_rank,
    networks,
    overhead,
    peer_factors,
    training,
    training_jax,
)

MODULES = (
    gram,
    inverses,
    convolution,
    peer_factors,
    embedding,
    low_rank,
    networks,
    training,
    training_jax,
    compiling_jax,
    overhead,
)


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return all cases of a library.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases, table by table.
    """
    for module in MODULES:
        yield from module.cases(library, quick=quick)
