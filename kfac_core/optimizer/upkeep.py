"""The statistics and inverses of a step: each brought up to date when it is due."""

from collections.abc import Callable

from kfac_core.backend import Backend
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.optimizer.clock import due, turn, when
from kfac_core.optimizer.options import KfacOptions
from kfac_core.optimizer.state import KfacState
from kfac_core.typing import Array, Scalar


def with_statistics(
    backend: Backend,
    options: KfacOptions,
    state: KfacState,
    update: Callable[[EstimatorState, Scalar], EstimatorState],
    given: Array | bool | None,
) -> KfacState:
    """Return the state with the statistics updated if they are due.

    Args:
        backend: Backend of the state.
        options: Of the optimiser.
        state: Its state.
        update: Folds the batch into the statistics, given a decay.
        given: Whether to update; None: when it is due.

    Returns:
        The state.
    """
    decay = options.cov_ema_decay**options.cov_update_every
    estimator = when(
        backend,
        due(backend, state.counter, options.cov_update_every, given),
        lambda: update(state.estimator, decay),
        lambda: state.estimator,
    )
    return state._replace(estimator=estimator)


def with_inverses(
    backend: Backend,
    options: KfacOptions,
    estimator: FisherEstimator,
    state: KfacState,
    given: Array | bool | None,
) -> KfacState:
    """Return the state with the inverses updated that are due.

    Args:
        backend: Backend of the state.
        options: Of the optimiser.
        estimator: Its estimator.
        state: Its state, the statistics updated.
        given: Whether to update all; None: those that are due.

    Returns:
        The state.
    """
    damping = state.damping * options.precon_damping_mult

    def updated(
        old: EstimatorState, condition: Array | bool, names: tuple[str, ...]
    ) -> EstimatorState:
        return when(
            backend,
            condition,
            lambda: estimator.update_inverses(
                old, damping, layers=names, tolerance=options.inverse_tolerance
            ),
            lambda: old,
        )

    every, names = options.invert_every, tuple(estimator.blocks)
    new = state.estimator
    if given is not None or not options.stagger_inverses:
        new = updated(new, due(backend, state.counter, every, given), names)
    else:
        for offset, group in turns(names, every).items():
            now = turn(backend, state.counter - offset, every) | (state.counter < 1)
            new = updated(new, now, group)
    return state._replace(estimator=new)


def turns(names: tuple[str, ...], every: int) -> dict[int, tuple[str, ...]]:
    """Return which layers have their turn how many steps after the first.

    Args:
        names: Of the layers.
        every: After how many steps it is a layer's turn again.

    Returns:
        The layers by the number of steps, from 0: as evenly spread as can be.

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
