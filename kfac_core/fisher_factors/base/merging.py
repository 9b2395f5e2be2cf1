"""The union of the states of a factor; see `kfac_core.spec.Spec.merge`."""

from typing import TYPE_CHECKING

from kfac_core.arguments.arrays import backend_for
from kfac_core.errors import DTypeError, NotFiniteError
from kfac_core.fisher_factors.base.messages import or_wider
from kfac_core.fisher_factors.base.state import FactorState, empty_state
from kfac_core.state import commit

if TYPE_CHECKING:
    from kfac_core.fisher_factors.base.factor import FisherFactor


def merged(factor: "FisherFactor", states: tuple[FactorState, ...]) -> FactorState:
    """Return the state of all that several states saw.

    Args:
        factor: The factor.
        states: States of its signature, at least one.

    Returns:
        The new state; under a trace the first one, if the new one is not finite.

    Raises:
        DTypeError: If two states are of different dtypes.
    """
    label = factor.label
    for state in states:
        factor._backend(state)
    totals = [state.cov.total for state in states]
    backend = backend_for(label, "state, others", *totals)
    dtype = totals[0].dtype
    for place, total in enumerate(totals):
        if total.dtype != dtype:
            msg = (
                f"{label}: state holds {dtype}, and others[{place - 1}]"
                f" {total.dtype}; merge states of one dtype"
            )
            raise DTypeError(msg)
    cov = factor.form.union(backend, [state.cov for state in states], factor)
    new = empty_state(backend, cov, factor)
    ok = backend.is_finite(factor.form.entries_to_check(backend, cov.total))
    ok = ok & backend.is_finite(cov.weight)

    def error() -> Exception:
        msg = (
            f"{label}: the sum of the statistics of {len(states)} states overflowed"
            f" {dtype}; give smaller weights{or_wider(backend, dtype)}. The states are"
            " unchanged"
        )
        return NotFiniteError(msg)

    return commit(backend, ok, new, states[0], error, "cov_ok")
