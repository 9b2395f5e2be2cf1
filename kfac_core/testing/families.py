"""One step of a block of each family: what the arrays of a library go through."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kfac_core import tree
from kfac_core.fisher_blocks import (
    ConvKFCBasicFB,
    EigenvalueCorrectedFB,
    EmbeddingKFACFB,
    FisherBlock,
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
    FullyConnectedMultiIndepFB,
    GroupedConvKFCBasicFB,
)
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.testing.candidate import Candidate, require

ROUNDINGS = 1000
"""Roundings that a step may differ by: of ten terms, and a condition of a hundred."""


class Family(NamedTuple):
    """A block, with NumPy arrays of one batch, and a vector like its parameters."""

    block: FisherBlock[Any]
    data: tuple[Any, ...]
    vector: Any


def drawn(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
    """Return normal numbers that float32 holds too, the same at every call."""
    rng = np.random.default_rng(0)
    return tuple(
        rng.standard_normal(shape, dtype=np.float32).astype(np.float64)
        for shape in shapes
    )


_DENSE = drawn((6, 3), (6, 2)), drawn((3, 2), (2,))
_IDS = np.asarray([0, 3, 1, 3, 2, 0])

FAMILIES: dict[str, Family] = {
    "fully_connected_pi": Family(FullyConnectedKFACBasicFB(3, 2, True), *_DENSE),
    "fully_connected_exact": Family(
        FullyConnectedKFACBasicFB(3, 2, True, damping_type="exact"), *_DENSE
    ),
    "fully_connected_diagonal": Family(FullyConnectedDiagonalFB(3, 2, True), *_DENSE),
    "convolution": Family(
        ConvKFCBasicFB(
            ConvolutionGeometry((2, 2, 1, 2), padding="VALID"), has_bias=True
        ),
        drawn((4, 3, 3, 1), (4, 2, 2, 2)),
        drawn((2, 2, 1, 2), (2,)),
    ),
    "embedding": Family(EmbeddingKFACFB(4, 2), (_IDS, *drawn((6, 2))), *drawn((4, 2))),
    "grouped_convolution": Family(
        GroupedConvKFCBasicFB(
            ConvolutionGeometry((2, 2, 1, 2), padding="VALID", num_groups=2)
        ),
        drawn((4, 3, 3, 2), (4, 2, 2, 2)),
        *drawn((2, 2, 1, 2)),
    ),
    "shared_layer": Family(
        FullyConnectedMultiIndepFB(3, 2, True),
        drawn((2, 6, 3), (2, 6, 2)),
        drawn((3, 2), (2,)),
    ),
    "low_rank": Family(
        FullyConnectedKFACBasicFB(3, 2, True, input_max_rows=20), *_DENSE
    ),
    "eigenvalue_corrected": Family(
        EigenvalueCorrectedFB(FullyConnectedKFACBasicFB(3, 2, True)), *_DENSE
    ),
}
"""A block of each family, by name."""


def step_of(family: Family, data: Any, vector: Any) -> Any:
    """Return the preconditioned vector, and the vector times the block.

    The statistics hold two batches, of which the inverse has seen the first.
    """
    block = family.block
    state = block.init(like=tree.leaves(vector)[0])
    state = block.update_covs(state, *data, ema_decay=0.9)
    state = block.update_inverses(state, damping=0.1)
    state = block.update_covs(state, *data, ema_decay=0.9)
    return block.multiply_inverse(state, vector), block.multiply(state, vector)


def moved(candidate: Candidate, given: Any, dtype: str) -> Any:
    """Return a tree of NumPy's arrays as the library's, ids as int32."""
    return tree.map(
        lambda x: candidate.array(x, "int32" if x.dtype.kind == "i" else dtype), given
    )


def difference(candidate: Candidate, found: Any, expected: Any) -> float:
    """Return the largest difference from NumPy's arrays, relative to their largest.

    Args:
        candidate: The backend on trial.
        found: A tree of its arrays.
        expected: NumPy's.

    Returns:
        The difference; infinite where something found is not finite.
    """
    differences = [0.0]

    def add(y: Any, x: Any) -> None:
        own = np.asarray(candidate.numpy(x), dtype=np.float64)
        off = float(np.abs(own - y).max() / np.abs(y).max())
        differences.append(off if np.isfinite(own).all() else float("inf"))

    tree.map(add, expected, found)
    return max(differences)


def agrees(candidate: Candidate, step: Callable[..., Any], *given: Any) -> None:
    """Check that a step of the library's arrays is that of NumPy's.

    Args:
        candidate: The backend on trial.
        step: A function of trees of arrays.
        *given: NumPy's float64 arrays.

    Raises:
        AssertionError: If they differ by more than rounding.
    """
    (*_, dtype) = candidate.floats()
    found = step(*(moved(candidate, part, dtype) for part in given))
    off = difference(candidate, found, step(*given))
    require(
        off <= ROUNDINGS * np.finfo(dtype).eps,
        f"off by {off:.1e} of NumPy's step, in {dtype}",
    )


def _check_of(name: str, family: Family) -> Callable[[Candidate], None]:
    def takes_a_step(candidate: Candidate) -> None:
        agrees(candidate, functools.partial(step_of, family), *family[1:])

    takes_a_step.__name__ = f"{name}_takes_a_step"
    takes_a_step.__doc__ = f"One step of {family.block.label}, as with NumPy's arrays."
    return takes_a_step


CHECKS = tuple(_check_of(name, family) for name, family in FAMILIES.items())
"""A check for each family, so that a failure has its name."""
