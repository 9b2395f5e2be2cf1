"""The statistics and inverses of a step, which are updated when they are due."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kfac_core.backend import Backend
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.optimizer.clock import due, turn, when
from kfac_core.optimizer.layer_damping import times
from kfac_core.optimizer.options import KfacOptions
from kfac_core.optimizer.state import KfacState
from kfac_core.optimizer.structure import Estimator, with_inverses_of
from kfac_core.typing import Array, Scalar

BatchWeight: TypeAlias = Scalar | None
"""Weight of a batch in an average; None: the default of a block."""


def with_statistics(
    backend: Backend,
    options: KfacOptions,
    state: KfacState,
    update: Callable[[KfacState, Scalar], KfacState],
    given: Array | bool | None,
) -> tuple[KfacState, Array]:
    """Return the state with the statistics updated if they are due.

    Args:
        backend: Backend of the state.
        options: Options of the optimiser.
        state: State of the optimiser.
        update: Takes a decay, and folds the batch into the statistics.
        given: Whether to update; None: when it is due.

    Returns:
        The state; and whether the batch was accepted, 0-d.
    """
    decay = options.cov_ema_decay**options.cov_update_every

    def updated() -> tuple[KfacState, Array]:
        new = update(state, decay)
        return new, new.estimator.flag("cov_ok")

    return when(
        backend,
        due(backend, state.counter, options.cov_update_every, given),
        updated,
        lambda: (state, _yes(backend, state)),
    )


def with_inverses(
    backend: Backend,
    options: KfacOptions,
    estimator: Estimator,
    state: KfacState,
    given: Array | bool | None,
) -> tuple[KfacState, Array]:
    """Return the state after updating the inverses that are due.

    Args:
        backend: Backend of the state.
        options: Options of the optimiser.
        estimator: Estimator of the optimiser.
        state: State of the optimiser, with statistics up to date.
        given: Whether to update all; None: those that are due.

    Returns:
        The state; and whether all layers were accepted, 0-d.
    """
    damping = times(state.damping, options.precon_damping_mult)

    def updated(
        old: Any, condition: Array | bool, names: tuple[str, ...]
    ) -> tuple[Any, Array]:
        def anew() -> tuple[Any, Array]:
            new = with_inverses_of(options, estimator, old, damping, names)
            return new, new.flag("derived_ok", names)

        return when(backend, condition, anew, lambda: (old, _yes(backend, state)))

    every, names = options.invert_every, tuple(estimator.blocks)
    new: Any = state.estimator
    if given is not None or not options.stagger_inverses:
        new, ok = updated(new, due(backend, state.counter, every, given), names)
    else:
        ok = _yes(backend, state)
        for offset, group in turns(names, every).items():
            now = turn(backend, state.counter - offset, every) | (state.counter < 1)
            new, fine = updated(new, now, group)
            ok = ok & fine
    return state._replace(estimator=new), ok


def batch_weights(
    backend: Backend,
    options: KfacOptions,
    state: KfacState,
    blocks: Mapping[str, FisherBlock[Any]],
    cases: Array,
    *,
    burn_in: bool,
) -> tuple[Array, BatchWeight | Mapping[str, BatchWeight]]:
    """Return the weight of a batch in the statistics.

    Args:
        backend: Backend of the state.
        options: Options of the optimiser.
        state: State of the optimiser.
        blocks: Block of each layer, by the layer's name.
        cases: Number of cases of the batch, 0-d.
        burn_in: Whether batches are averaged without decay.

    Returns:
        The number of cases that has the weight one; and the weight of the batch, by
        layer where it differs. Batches of one size have the weight one; None is a
        block's default.
    """
    # Without debiasing, the initial value before the first batch counts as well.
    plain = 1.0 if burn_in else None
    if options.weigh_batches == "equally":
        return state.batch_cases, plain
    known = state.batch_cases
    reference = backend.xp.where(known > 0, known, cases)
    weight = cases / reference
    own = {
        name: weight if block.zero_debias else plain for name, block in blocks.items()
    }
    every = {block.zero_debias for block in blocks.values()}
    return reference, own if len(every) > 1 else next(iter(own.values()))


def _yes(backend: Backend, state: KfacState) -> Array:
    """Return True, 0-d, of the library and device of a state."""
    return backend.xp.ones_like(state.counter, dtype=backend.xp.bool)


def turns(names: tuple[str, ...], every: int) -> dict[int, tuple[str, ...]]:
    """Return the layers whose turn it is, for each number of steps after the first.

    Args:
        names: Names of the layers.
        every: Number of steps after which it is a layer's turn again.

    Returns:
        The layers by the number of steps, from 0, spread as evenly as possible.

    Example:
        >>> turns(("a", "b", "c"), 2)
        {0: ('a', 'b'), 1: ('c',)}
        >>> turns(("a", "b"), 6)
        {0: ('a',), 3: ('b',)}
    """
    groups: dict[int, tuple[str, ...]] = {}
    for place, name in enumerate(names):
        offset = place * every // len(names)
        groups[offset] = (*groups.get(offset, ()), name)
    return groups
