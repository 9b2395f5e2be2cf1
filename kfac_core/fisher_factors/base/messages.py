"""The errors of factors whose cause has to be found out."""

from collections.abc import Iterable, Mapping

from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import (
    EigendecompositionError,
    NotFiniteError,
    NotPositiveDefiniteError,
    NotRegisteredError,
)
from kfac_core.linalg.retry import Retrying, float64_of
from kfac_core.typing import Array, DampingId, DType

ENABLE_FLOAT64 = "enable float64 (JAX: jax.config.update('jax_enable_x64', True))"
"""What to do where a library has no float64."""


def or_wider(backend: Backend, dtype: DType) -> str:
    """Return what else to do about statistics that a dtype does not hold.

    Args:
        backend: Backend of the state.
        dtype: What the statistics, or what is derived from them, are in.

    Returns:
        The end of a list of advice, its comma included; nothing where the dtype is the
        widest already.
    """
    if str(dtype).endswith("float64"):
        return ""
    if float64_of(backend) is None:
        return f", or {ENABLE_FLOAT64} and use a float64 state"
    return ", or use a float64 state"


def not_finite(
    backend: Backend,
    label: str,
    data: Mapping[str, Iterable[Iterable[Array]]],
    dtype: DType,
) -> NotFiniteError:
    """Find out whether the data, or their statistics in a dtype, are not finite."""
    for argument, sources in data.items():
        for array in (tower for towers in sources for tower in towers):
            if not bool(backend.is_finite(array)):
                msg = (
                    f"{label}: {argument} holds NaN or infinity; the state is unchanged"
                )
                return NotFiniteError(msg)
    return overflowed(backend, label, f"the statistics of {', '.join(data)}", dtype)


def overflowed(
    backend: Backend, label: str, what: str, dtype: DType, scaled: str = "data"
) -> NotFiniteError:
    """Say what overflowed a dtype, and what to scale."""
    msg = (
        f"{label}: {what} overflowed {dtype}; scale the {scaled}"
        f"{or_wider(backend, dtype)}. The state is unchanged"
    )
    return NotFiniteError(msg)


def not_positive_definite(
    backend: Backend, label: str, trace: Array, dimension: int, damping: float
) -> NotPositiveDefiniteError:
    """Say which damping would be large enough."""
    # The backward error of a Cholesky factorisation moves eigenvalues by about n u |C|,
    # and the norm is at most the trace: a damping above that is safe.
    floor = dimension * float(backend.xp.finfo(trace.dtype).eps) * float(trace)
    msg = (
        f"{label}: the matrix plus damping {damping:g} is not positive definite in"
        f" {trace.dtype} (trace {float(trace):g}); use a damping above"
        f" {floor:.1g}{or_wider(backend, trace.dtype)}. The state is unchanged"
    )
    return NotPositiveDefiniteError(msg)


def not_decomposed(
    backend: Backend, label: str, matrix: Array, retry: Retrying
) -> EigendecompositionError:
    """Say that the library found no eigendecomposition, and what may help."""
    wide = float64_of(backend)
    where = str(matrix.dtype)
    if wide is None:
        hint = f"{ENABLE_FLOAT64}, "
    else:
        hint, where = "", where if matrix.dtype == wide else f"{where} and in {wide}"
    msg = (
        f"{label}: the eigendecomposition that {backend.name} computes does not"
        f" converge, in {where}, of statistics that are finite; {hint}use another build"
        " of its linear algebra, or register the powers -1, -2, 1 and 2 alone, which"
        " need none. The state is unchanged"
    )
    error = EigendecompositionError(msg)
    error.__cause__ = retry.cause
    return error


def not_registered(
    label: str, what: str, damping_id: DampingId, served: str
) -> NotRegisteredError:
    """Say what is served instead, and how to register more."""
    msg = (
        f"{label}: {what} with damping id {shown(damping_id)} is not registered; served"
        f" are {served}. Register it (register_matpower, ...: a new spec), then call"
        " init_inverses and update_inverses"
    )
    return NotRegisteredError(msg)
