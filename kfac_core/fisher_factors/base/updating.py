"""How a factor updates its state, and how wrong its inverses are by now."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kfac_core import moving_average, tree
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base import messages
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID, not_registered
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.wide import narrowed, widened
from kfac_core.linalg.residual import ResidualRange
from kfac_core.linalg.retry import Retrying, retried, retrying
from kfac_core.moving_average import Sample
from kfac_core.state import all_finite, commit, is_known_false, true_like
from kfac_core.typing import Array, Dampings, Scalar

if TYPE_CHECKING:
    from kfac_core.fisher_factors.base.factor import FisherFactor


def accumulated(
    factor: "FisherFactor",
    backend: Backend,
    state: FactorState,
    samples: Sequence[Array | Sample],
    ema_decay: Scalar,
    ema_weight: Scalar | None,
    data: Mapping[str, tuple[tuple[Array, ...], ...]],
) -> FactorState:
    """Return the state with one more statistic.

    Args:
        factor: The factor.
        backend: Backend of all arrays.
        state: The state, whose form is checked.
        samples: The statistic of each source; they are summed.
        ema_decay: As the user gave it.
        ema_weight: As the user gave it.
        data: The arrays of each argument, by source and tower, for the message.

    Returns:
        The new state; under a trace the old one, if the new one is not finite.
    """
    form, label, like = factor.form, factor.label, state.cov.total
    decay, weight = moving_average.weights_of(
        backend, ema_decay, ema_weight, like, label, zero_debias=factor.zero_debias
    )
    if form.joins_sources:
        samples = form.joined_sources(backend, samples, factor)
    cov = moving_average.fold(backend, state.cov, samples, decay, weight)
    entries = form.entries_to_check(backend, cov.total)
    if backend.known_finite(entries):
        ok = true_like(backend, state.cov_ok)
        return FactorState(cov, state.derived, state.computed, ok, *state[4:])
    new, ok = state._replace(cov=cov), backend.is_finite(entries)

    def error() -> Exception:
        return messages.not_finite(backend, label, data, like.dtype)

    return commit(backend, ok, new, state, error, "cov_ok")


def with_inverses(
    factor: "FisherFactor", backend: Backend, state: FactorState, damping: Dampings
) -> FactorState:
    """Return the state with all that a factor serves; see `update_inverses`.

    Args:
        factor: The factor.
        backend: Backend of the state.
        state: The state, whose form is checked.
        damping: As the user gave it.

    Returns:
        The new state; under a trace the old one, if the new one is not finite.
    """
    form = factor.form
    wide = widened(backend, state, factor.inverse_dtype, factor.label)
    dampings = form.dampings(backend, damping, state.cov.total, factor)
    if wide is not state:
        dampings = tree.cast(backend, dampings, wide.cov.total.dtype)
    cov = moving_average.value(backend, wide.cov, factor.label)
    retry: Retrying | None = None

    def derive(backend: Backend) -> tuple[FactorState, Array]:
        derived = form.refresh(backend, wide, cov, dampings, factor)
        computed = true_like(backend, state.computed)
        new = FactorState(wide.cov, derived, computed, *wide[3:])
        extra = form.extra(backend, new, cov, dampings, factor)
        new = new._replace(extra=extra) if extra else new
        new = narrowed(backend, new, state)
        return new, all_finite(backend, (new.derived, new.extra), state.derived_ok)

    new, ok = derive(backend)
    if ok is new.derived_ok and backend.known_number(ok):
        return new
    if is_known_false(backend, ok):
        again, retry = retrying(backend)
        new, ok = derive(again)

    def error() -> Exception:
        if retry is not None and retry.failed:
            return messages.not_decomposed(backend, factor.label, cov, retry)
        return form.not_positive_definite(backend, cov, dampings, factor)

    return commit(backend, ok, new, state, error, "derived_ok")


def inverse_residual(
    factor: "FisherFactor", backend: Backend, state: FactorState, damping: Dampings
) -> ResidualRange:
    """Return the residual's range of all inverses that a factor serves.

    Args:
        factor: The factor.
        backend: Backend of the state.
        state: The state, whose form is checked.
        damping: As the user gave it.

    Returns:
        The range; infinite where nothing is computed yet.

    Raises:
        not_decomposed: If the library finds no eigendecomposition of the small matrix
            that the estimate needs, not even in float64.
        not_registered: If no inverse is served.
    """
    powers = enumerate(factor.stored_matpowers)
    places = {place: key for place, (exp, key) in powers if exp == -1}
    if not places:
        raise not_registered(factor, "matpower -1", DEFAULT_DAMPING_ID)
    form, xp = factor.form, backend.xp
    dampings = form.dampings(backend, damping, state.cov.total, factor)
    infinite = xp.zeros_like(next(iter(dampings.values()))) + float("inf")
    if is_known_false(backend, state.computed):
        return ResidualRange(-infinite, infinite)
    found, retry = retried(
        backend,
        lambda b: tuple(
            [
                form.residual(b, state, dampings[key], place, factor)
                for place, key in places.items()
            ]
        ),
        state.computed,
    )
    if retry is not None:
        raise messages.not_decomposed(backend, factor.label, state.cov.total, retry)
    smallest, largest = found[0]
    for low, high in found[1:]:
        smallest, largest = xp.minimum(smallest, low), xp.maximum(largest, high)
    return ResidualRange(
        xp.where(state.computed, smallest, -infinite),
        xp.where(state.computed, largest, infinite),
    )
