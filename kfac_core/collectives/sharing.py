"""Statistics of all ranks, of which each has a shard of the batch.

A step, on every rank:

1. The rank folds its shard into the state. All ranks have the same state before. Rank 0
   goes on from it, with the decay of the step; the others forget it, with a decay of
   zero: what all saw in common counts once.
2. `summed` adds the sums of all ranks. Now all have the state of the whole batch.
3. `inverses.inverted` computes the inverses of the layers that are the rank's own, and
   sends each to all others, or to those of its team.
4. `inverses.multiplied` is the product with the inverses of all teams.

A shard counts by its cases, which are its ``ema_weight``: shards may be unequal.
"""

from collections.abc import Callable
from functools import partial

from kfac_core.collectives.exchange import Part
from kfac_core.collectives.packing import Like, packed, unpacked
from kfac_core.collectives.protocol import Collective, Starting
from kfac_core.collectives.visits import arrays_of, mapped
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.state import kept
from kfac_core.typing import Array, Scalar


def decayed(
    estimator: FisherEstimator, state: EstimatorState, decay: Scalar
) -> EstimatorState:
    """Return a state whose sums are multiplied by a number.

    It is that of a rank that has no case in a step: rank 0 takes the decay of the step,
    and the others zero.

    Args:
        estimator: The estimator.
        state: A state of it; left as it is.
        decay: The number.

    Returns:
        The state.

    Raises:
        UnsupportedError: If the statistics of a block are no sums.
    """

    def visit(x: Array, part: Part) -> Array:
        return kept(x * decay) if part.is_sum else x

    return mapped(estimator, state, visit)


def summed(
    estimator: FisherEstimator,
    before: EstimatorState,
    state: EstimatorState,
    collective: Collective,
) -> EstimatorState:
    """Return the state of the cases of all ranks.

    Sums travel in one flat buffer for each dtype, symmetric matrices as triangles.
    Within a trace, look at ``ok`` of all ranks: a rank that refused its shard has kept
    what it had before, and adds that once more.

    Args:
        estimator: The estimator, the same on all ranks.
        before: The state before the step, the same on all ranks.
        state: The state of this rank after its shard; see the module.
        collective: The ranks.

    Returns:
        The state, the same bits on all ranks.

    Raises:
        UnsupportedError: If the statistics of a block are no sums.
    """
    return summing(estimator, before, state, collective)()


def summing(
    estimator: FisherEstimator,
    before: EstimatorState,
    state: EstimatorState,
    collective: Collective,
) -> Callable[[], EstimatorState]:
    """Begin what `summed` does, and return what waits for it.

    A `kfac_core.collectives.Starting` collective sends while the caller goes on: what
    `update_inverses` computed of `before` is that of the sum as well, and serves until
    the statistics are needed. Any other sends at once.

    Args:
        estimator: As in `summed`.
        before: As in `summed`.
        state: As in `summed`; it need not be kept.
        collective: As in `summed`.

    Returns:
        A function that returns the state, to be called once.

    Raises:
        UnsupportedError: If the statistics of a block are no sums.
    """
    backend = estimator.check_state(state)
    found, symmetric = arrays_of(estimator, state, lambda part: part.is_sum)
    buffers = [*packed(backend, found, symmetric), state.cases - before.cases]
    start = (
        collective.start_all_reduce
        if isinstance(collective, Starting)
        else partial(_at_once, collective)
    )
    waits = [start(x) for x in buffers]
    likes = [Like(tuple(x.shape), x.dtype) for x in found]
    del found  # the state of this rank is not kept while its sums are sent
    fine = {name: state.flag("cov_ok", [name]) for name in estimator.blocks}

    def wait() -> EstimatorState:
        *sums, cases = [wait() for wait in waits]
        arrays = iter(unpacked(backend, sums, likes, symmetric))

        def visit(x: Array, part: Part) -> Array:
            return next(arrays) if part.is_sum else x

        # All but the sums is what it was, on all ranks.
        whole = mapped(estimator, before, visit)
        blocks = {
            name: own.with_flag("cov_ok", fine[name] & fine[name])
            for name, own in whole.blocks.items()
        }
        return EstimatorState(blocks, kept(before.cases + cases))

    return wait


def _at_once(collective: Collective, x: Array) -> Callable[[], Array]:
    total = collective.all_reduce(x)
    return lambda: total
