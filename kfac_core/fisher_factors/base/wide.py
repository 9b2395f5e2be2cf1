"""What is derived in float64 where statistics and products have less precision."""

from typing import Any

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.errors import DTypeError
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.typing import DType


def widened(
    backend: Backend, state: FactorState, name: str | None, label: str
) -> FactorState:
    """Return a state in the dtype that its inverses are computed in.

    Args:
        backend: Backend of the state.
        state: The state.
        name: Name of the dtype; None: the dtype of the state.
        label: Name of the factor, for the message.

    Returns:
        The state; nothing is rounded.

    Raises:
        DTypeError: If the library has no such dtype here.
    """
    if name is None:
        return state
    wide: FactorState = tree.cast(backend, state, _dtype(backend, name, label))
    return wide


def narrowed(backend: Backend, wide: FactorState, state: FactorState) -> FactorState:
    """Return a state's statistics with what a wide state derived, in the state's dtype.

    Args:
        backend: Backend of the states.
        wide: The state that holds what was derived.
        state: The state that holds the statistics, in the dtype of the result.

    Returns:
        The state.
    """
    if wide.cov.total.dtype == state.cov.total.dtype:
        return wide
    derived, extra = tree.cast(
        backend, (wide.derived, wide.extra), state.cov.total.dtype
    )
    return state._replace(derived=derived, extra=extra, computed=wide.computed)


def _dtype(backend: Backend, name: str, label: str) -> DType:
    """Return a dtype by its name.

    The dtype is taken from the library's list: JAX without x64 would turn a name into
    float32.

    Raises:
        DTypeError: If the library has no such dtype here.
    """
    info: Any = backend.xp.__array_namespace_info__()
    known: dict[str, DType] = info.dtypes(kind="real floating")
    if name not in known:
        msg = (
            f"{label}: inverse_dtype is {name!r}, but {backend.name} has"
            f" {', '.join(known)} alone; enable it (JAX:"
            " jax.config.update('jax_enable_x64', True)), or leave inverse_dtype None"
        )
        raise DTypeError(msg)
    return known[name]
