"""`TridiagonalState`: what a `BlockTridiagonalEstimator` knows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from kfac_core.backend import Backend
from kfac_core.estimator.state import EstimatorState
from kfac_core.estimator.tridiagonal.cross_factors import CrossFactors
from kfac_core.linalg.kronecker_chain import Link, Product
from kfac_core.linalg.kronecker_sum import KroneckerSum, Pencil
from kfac_core.moving_average import MovingAverage
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class TridiagonalState(NamedTuple):
    """State of a `BlockTridiagonalEstimator`.

    Attributes:
        diagonal: The layers' own statistics and inverses.
        cross: Statistics of each layer and the next, one for each layer but the last.
        damped: ``A + a I`` and ``G + g I`` of each layer, as of the last
            `update_inverses`.
        links: Each layer given the next one, as of the same update.

    Example:
        >>> import numpy as np
        >>> from kfac_core.estimator import BlockTridiagonalEstimator
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(4, 3), Dense(3, 2), Dense(2, 1))))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss())
        >>> params = model.init(np.random.default_rng(0), like=np.ones(1))
        >>> state = BlockTridiagonalEstimator(collection).init(params)
        >>> len(state.blocks), len(state.cross)  # one for each two neighbours
        (3, 2)
    """

    diagonal: EstimatorState
    cross: tuple[CrossFactors, ...]
    damped: tuple[Product, ...]
    links: tuple[Link, ...]

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.diagonal.ok

    @property
    def blocks(self) -> dict[str, Any]:
        """The state of each layer's block, by the layer's name."""
        return self.diagonal.blocks

    @property
    def cases(self) -> Array:
        """0-d integer, the number of cases seen by `update_covs`."""
        return self.diagonal.cases

    def flag(self, name: str, layers: Sequence[str] | None = None) -> Array:
        """Return whether the last update of a kind was taken; see `EstimatorState`."""
        return self.diagonal.flag(name, layers)


def empty_state(
    backend: Backend,
    diagonal: EstimatorState,
    sizes: list[tuple[int, int]],
    *,
    zero_debias: bool,
) -> TridiagonalState:
    """Return the state before any data.

    Args:
        backend: Backend of the state.
        diagonal: The state of the layers before any data.
        sizes: Numbers of rows of each layer's two factors.
        zero_debias: Whether averages are debiased; if not, they start at zero.

    Returns:
        The state.
    """
    xp = backend.xp
    like = next(iter(diagonal.blocks.values())).input_factor.cov.total
    device = backend.creation_device(like)

    def zeros(*shape: int) -> Array:
        array: Array = xp.zeros(shape, dtype=like.dtype, device=device)
        return array

    def average(*shape: int) -> MovingAverage:
        weight = 0.0 if zero_debias else 1.0
        start = xp.full((), weight, dtype=like.dtype, device=device)
        return MovingAverage(zeros(*shape), start)

    pairs = list(pairwise(sizes))
    cross = [
        CrossFactors(average(m, after_m), average(n, after_n))
        for (m, n), (after_m, after_n) in pairs
    ]
    links = [
        Link(
            zeros(m, after_m),
            zeros(n, after_n),
            KroneckerSum(*(Pencil(zeros(k), zeros(k, k), zeros()) for k in (m, n))),
        )
        for (m, n), (after_m, after_n) in pairs
    ]
    damped = [(zeros(m, m), zeros(n, n)) for m, n in sizes]
    return TridiagonalState(diagonal, tuple(cross), tuple(damped), tuple(links))


def shapes(sizes: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return the shapes of all arrays of a state but those of `diagonal`, in order."""
    found: list[tuple[int, ...]] = []
    for (m, n), (p, q) in pairwise(sizes):  # averages
        found += [(m, p), (), (n, q), ()]
    for m, n in sizes:  # damped factors
        found += [(m, m), (n, n)]
    for (m, n), (p, q) in pairwise(sizes):  # links
        found += [(m, p), (n, q), (m,), (m, m), (), (n,), (n, n), ()]
    return found
