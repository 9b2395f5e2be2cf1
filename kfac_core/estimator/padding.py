"""Kronecker products of unequal sizes are inverted together: all are padded to one.

Beside a matrix ``C``, a multiple of the identity changes nothing: the inverse of
``diag(C, t I)`` consists of that of ``C`` and of that of ``t I``. The split of a
block's damping depends on the mean eigenvalues of its factors. So ``t`` is that of
``C``, which stays the mean. The result is exact: that of each block alone, up to
rounding.

The padding costs arithmetic, and saves a start of every operation for each layer: it
pays off up to the sizes below, by far for the smallest.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kfac_core import moving_average, tree
from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.splitting import Splitting
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors import FactorState
from kfac_core.fisher_factors.base.state import Derived
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.linalg.stacks import diagonals
from kfac_core.moving_average import MovingAverage
from kfac_core.rows.counts import mean_weight
from kfac_core.state import kept, true_like
from kfac_core.typing import Array, Scalar

LARGEST_PADDED = 64
"""Largest size that matrices are padded to."""

LEAST_SHARE = 0.75
"""Least size of a matrix that is padded, as a share of what it is padded to."""


class Range(NamedTuple):
    """What blocks have in common that are inverted together.

    Attributes:
        splitting: How they split their damping, for the sizes that all are padded to.
        least: The least size of both factors.
    """

    splitting: Splitting
    least: tuple[int, int]

    def joined(self, other: "Range") -> "Range | None":
        """Return the range of both; None if they differ, or it would not pay off."""
        sizes, most, least = self.splitting.sizes, other.splitting.sizes, other.least
        if self.splitting._replace(sizes=most) != other.splitting:
            return None
        most = (max(sizes[0], most[0]), max(sizes[1], most[1]))
        least = (min(self.least[0], least[0]), min(self.least[1], least[1]))
        for low, high in zip(least, most, strict=True):
            if low < high and (high > LARGEST_PADDED or low < LEAST_SHARE * high):
                return None
        return Range(self.splitting._replace(sizes=most), least)


def range_of(block: FisherBlock[Any]) -> Range | None:
    """Return what a block has in common with others; None if it is not padded.

    That is a product of two dense factors that serves its inverse and nothing else.
    """
    own: Any = type(block)
    if (
        not isinstance(block, KroneckerProductFB)
        or own.update_inverses is not KroneckerProductFB.update_inverses
        or own.init is not KroneckerProductFB.init
        or block.damping_type == "exact"
        or not all(_is_inverse_alone(factor) for factor in block._sides)
    ):
        return None
    return Range(block.splitting, block._sizes)


def _is_inverse_alone(factor: Any) -> bool:
    return (
        type(factor.form) is Dense
        and [exp for exp, _ in factor.stored_matpowers] == [-1]
        and len(factor.damping_ids) == 1
        and not factor.cholesky
        and not factor.cholesky_inverse
        and not factor.eigendecomposition
        and not factor.newton_steps
        and factor.inverse_dtype is None
    )


def padded_inverses(
    blocks: Sequence[KroneckerProductFB],
    states: Sequence[KroneckerState],
    dampings: Sequence[Scalar],
    splitting: Splitting,
) -> list[KroneckerState] | None:
    """Return the states with new inverses; None if the update of any layer failed.

    Args:
        blocks: Blocks of one `Range`.
        states: A state of each block, of one dtype, on one device.
        dampings: A damping for each block.
        splitting: That of the range.

    Returns:
        The new states.

    Raises:
        KfacError: If a state or a damping is not valid.
    """
    for block, state in zip(blocks, states, strict=True):
        backend = block._checked(state)
    xp = backend.xp
    given = [
        as_scalar(backend, own, state.scale, "damping", block.label)
        for block, state, own in zip(blocks, states, dampings, strict=True)
    ]
    # 1. Numbers of all blocks, ``[count]`` each; formulas of numbers hold for arrays.
    uses = tree.stack(backend, [state.uses for state in states])
    scale = moving_average.mean_or_zero(backend, uses)
    weights = tree.stack(backend, [state.weights for state in states])
    mean = mean_weight(backend, weights)
    # 2. Statistics over the root of the mean weight, ``[count, n, n]``.
    sides = [
        _padded(backend, [own.cov for own in factors], size, xp.sqrt(mean))
        for factors, size in zip(
            zip(*[state[:2] for state in states], strict=True),
            splitting.sizes,
            strict=True,
        )
    ]
    # 3. The damping of each factor.
    traces = [xp.sum(diagonals(backend, covs), axis=-1) for covs in sides]
    split = splitting.of(backend, xp.stack(given), scale, mean, *traces)
    # 4. One factorisation for each side.
    inverses = [
        backend.vmap(lambda cov, own: backend.damped_inverse(cov, own), covs, of_side)
        for covs, of_side in zip(sides, split, strict=True)
    ]
    ok = _are_finite(backend, inverses[0]) & _are_finite(backend, inverses[1])
    for own in zip(*[state[:2] for state in states], strict=True):
        ok = ok & (xp.stack([factor.cov.weight for factor in own]) > 0)
    if not backend.is_traced(ok) and not bool(xp.all(ok)):
        return None
    # 5. The first rows and columns are each block's own.
    numbers = [_members(backend, x) for x in (scale, mean, ok, *split)]
    return [
        _with_inverses(
            backend,
            state,
            given[i],
            [own[i] for own in numbers],
            [own[i, ...] for own in inverses],
        )
        for i, state in enumerate(states)
    ]


def _padded(
    backend: Backend, averages: Sequence[MovingAverage], size: int, root: Array
) -> Array:
    """Return averages over roots, ``[count, size, size]``, padded by their means."""
    xp, totals = backend.xp, [average.total for average in averages]
    sizes = [total.shape[-1] for total in totals]
    device, dtype = backend.creation_device(totals[0]), totals[0].dtype
    zeros = xp.zeros((size, size), dtype=dtype, device=device)
    bands = []
    for n, total in zip(sizes, totals, strict=True):
        if n == size:
            bands.append(total)
        else:
            bands += [xp.concat([total, zeros[:n, n:]], axis=1), zeros[n:, :]]
    stack = xp.reshape(xp.concat(bands, axis=0), (len(totals), size, size))
    weights = xp.stack([average.weight for average in averages])
    weights = xp.where(weights > 0, weights, xp.ones_like(weights)) * root
    stack = stack / weights[:, None, None]
    if min(sizes) < size:
        rows = xp.asarray(sizes, dtype=dtype, device=device)[:, None]
        is_beside = xp.arange(size, dtype=dtype, device=device)[None, :] >= rows
        means = xp.sum(diagonals(backend, stack), axis=-1)[:, None] / rows
        beside = xp.where(is_beside, means, xp.zeros_like(means))
        stack = stack + beside[:, :, None] * xp.eye(size, dtype=dtype, device=device)
    return stack


def _are_finite(backend: Backend, stack: Array) -> Array:
    """Return whether each matrix of a stack is finite, ``[count]``."""
    finite: Array = backend.xp.all(backend.xp.isfinite(stack), axis=(-2, -1))
    return finite


def _members(backend: Backend, x: Array) -> list[Array]:
    """Return the numbers of a stack, each with memory of its own."""
    xp = backend.xp
    return [xp.astype(x[i, ...], x.dtype, copy=True) for i in range(x.shape[0])]


def _with_inverses(
    backend: Backend,
    state: KroneckerState,
    damping: Array,
    numbers: Sequence[Array],
    inverses: Sequence[Array],
) -> KroneckerState:
    """Return a state with its inverses, or under a trace the old one if not ``ok``."""
    scale, mean, ok, *split = numbers
    traced = backend.is_traced(ok)

    def of_side(own: FactorState, damping: Array, stacked: Any) -> FactorState:
        n = own.cov.total.shape[-1]
        inverse = backend.xp.astype(stacked[:n, :n], stacked.dtype, copy=True)
        return own._replace(
            derived=Derived((damping,), (inverse,), (), (), ()),
            computed=true_like(backend, own.computed),
            derived_ok=kept(ok & ok) if traced else true_like(backend, own.derived_ok),
        )

    a, g = map(of_side, state[:2], split, inverses)
    new = state._replace(
        input_factor=a,
        output_factor=g,
        scale=kept(scale),
        mean_weight=kept(mean),
        damping=damping,
    )
    return whole(backend, new, state, "derived_ok")
