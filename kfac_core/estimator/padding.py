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

from kfac_core import moving_average
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
    likes, labels = [state.scale for state in states], [own.label for own in blocks]
    given = stacked_dampings(backend, dampings, likes, labels)
    # 1. Numbers of all blocks, ``[count]`` each; formulas of numbers hold for arrays.
    scale = moving_average.mean_or_zero(backend, _stacked(backend, states, "uses"))
    mean = mean_weight(backend, _stacked(backend, states, "weights"))
    # 2. Statistics over the root of the mean weight, ``[count, n, n]``.
    factors = zip(*[state[:2] for state in states], strict=True)
    sides = [
        _padded(backend, [own.cov for own in of_side], size, xp.sqrt(mean))
        for of_side, size in zip(factors, splitting.sizes, strict=True)
    ]
    # 3. The damping of each factor.
    traces = [xp.sum(diagonals(backend, covs), axis=-1) for covs, _ in sides]
    split = splitting.of(backend, given, scale, mean, *traces)
    # 4. One factorisation for each side.
    inverses, ok = [], xp.isfinite(mean)
    for (covs, started), of_side in zip(sides, split, strict=True):
        found, finite = backend.damped_inverses(covs, of_side)
        inverses.append(found)
        ok = ok & finite & started
    if not backend.is_traced(ok) and not bool(xp.all(ok)):
        return None
    # 5. The first rows and columns are each block's own.
    return _with_inverses(backend, states, inverses, (scale, mean, given), split, ok)


def stacked_dampings(
    backend: Backend,
    dampings: Sequence[Scalar],
    likes: Sequence[Array],
    labels: Sequence[str],
) -> Array:
    """Return checked dampings, ``[count]``; one number for all is checked once.

    Args:
        backend: Backend of the arrays.
        dampings: A damping for each block.
        likes: An array of each block, for dtype and device.
        labels: Name of each block, for the message.
    """
    if all(own is dampings[0] for own in dampings):
        checked = [as_scalar(backend, dampings[0], likes[0], "damping", labels[0])]
        checked *= len(dampings)
    else:
        checked = [
            as_scalar(backend, own, like, "damping", label)
            for own, like, label in zip(dampings, likes, labels, strict=True)
        ]
    stack: Array = backend.xp.stack(checked)
    return stack


def _stacked(backend: Backend, states: Sequence[Any], name: str) -> MovingAverage:
    """Return an average of numbers of every state, ``[count]``."""
    averages = [getattr(state, name) for state in states]
    return MovingAverage(
        backend.xp.stack([average.total for average in averages]),
        backend.xp.stack([average.weight for average in averages]),
    )


def _padded(
    backend: Backend, averages: Sequence[MovingAverage], size: int, root: Array
) -> tuple[Array, Array]:
    """Return averages over roots, ``[count, size, size]``, padded by their means.

    And whether each is an average of anything yet, ``[count]``.
    """
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
    started = weights > 0
    weights = xp.where(started, weights, xp.ones_like(weights)) * root
    stack = stack / weights[:, None, None]
    if min(sizes) < size:
        rows = xp.asarray(sizes, dtype=dtype, device=device)[:, None]
        is_beside = xp.arange(size, dtype=dtype, device=device)[None, :] >= rows
        means = xp.sum(diagonals(backend, stack), axis=-1)[:, None] / rows
        beside = xp.where(is_beside, means, xp.zeros_like(means))
        stack = stack + beside[:, :, None] * xp.eye(size, dtype=dtype, device=device)
    return stack, started


def _with_inverses(
    backend: Backend,
    states: Sequence[KroneckerState],
    inverses: Sequence[list[Array]],
    numbers: tuple[Array, Array, Array],
    split: tuple[Array, Array],
    ok: Array,
) -> list[KroneckerState]:
    """Return states with inverses, or under a trace the old ones where not ``ok``.

    Args:
        backend: Backend of the arrays.
        states: The states before.
        inverses: For both factors, the padded inverse of each state.
        numbers: ``c``, the mean weight and the damping of each state, ``[count]`` each.
        split: The dampings of both factors, ``[count]`` each.
        ok: Whether the inverses of each state are good, ``[count]``.
    """
    xp, traced = backend.xp, backend.is_traced(ok)
    members = backend.members
    scales, means, dampings = map(members, numbers)
    of_factors = [*map(members, split)]
    # No array stands in two places of a state, so each flag is one of its own.
    true = xp.ones_like(ok)
    computed = [members(true), members(true)]
    fine = [members(ok), members(ok)] if traced else [members(true), members(true)]

    def factor_of(place: int, i: int, own: FactorState) -> FactorState:
        inverse, n = inverses[place][i], own.cov.total.shape[-1]
        if n < inverse.shape[-1]:
            inverse = xp.astype(inverse[:n, :n], inverse.dtype, copy=True)
        return FactorState(
            own.cov,
            Derived((of_factors[place][i],), (inverse,), (), (), ()),
            computed[place][i],
            own.cov_ok,
            fine[place][i],
            *own[5:],
        )

    found = []
    for i, state in enumerate(states):
        a, g = factor_of(0, i, state.input_factor), factor_of(1, i, state.output_factor)
        own = (state.uses, state.weights, scales[i], means[i], dampings[i])
        new = KroneckerState(a, g, *own, state.made_by)
        found.append(whole(backend, new, state, "derived_ok") if traced else new)
    return found
