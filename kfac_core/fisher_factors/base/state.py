"""The state that all factors have."""

from typing import TYPE_CHECKING, Any, NamedTuple

from kfac_core.arguments.arrays import backend_for, statistics_dtype
from kfac_core.backend import Backend
from kfac_core.errors import DTypeError, NotComputedError, ShapeError
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.moving_average import MovingAverage
from kfac_core.spec.signature import UNSIGNED, Signature, check_kind, check_made_by
from kfac_core.state import is_known_false, kept
from kfac_core.state_classes import state_class
from kfac_core.typing import Array, DType

if TYPE_CHECKING:
    from kfac_core.fisher_factors.base.factor import FisherFactor


@state_class
class Derived(NamedTuple):
    """What one `update_inverses` computes from the statistics.

    Its entries are read by position, so that it belongs to the specs of one signature;
    `init_inverses` makes one for another spec.

    Attributes:
        dampings: 0-d, one for each of the factor's `damping_ids`.
        matpowers: One for each of the factor's `stored_matpowers`.
        choleskys: Lower Cholesky factors, one for each of ``cholesky``.
        cholesky_inverses: Inverse Cholesky factors, one for each of
            ``cholesky_inverse``.
        eigendecompositions: One if the factor asks for it, else none.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> factor = NaiveFullFactor(size=1, matpowers=(-1.0, -0.5))
        >>> x = np.asarray([4.0])
        >>> state = factor.update_cov(factor.init(x), x, batch_size=1, ema_decay=0.0)
        >>> state = factor.update_inverses(state, damping=9.0)
        >>> factor.stored_matpowers
        ((-1.0, 'damping'), (-0.5, 'damping'))
        >>> state.derived.matpowers  # of 16 + 9
        (array([[0.04]]), array([[0.2]]))
    """

    dampings: tuple[Array, ...]
    matpowers: tuple[Array, ...]
    choleskys: tuple[Array, ...]
    cholesky_inverses: tuple[Array, ...]
    eigendecompositions: tuple[Eigendecomposition, ...]


@state_class
class FactorState(NamedTuple):
    """What a factor knows. Every leaf is an array: a pytree.

    Attributes:
        cov: Moving average of the statistics, of the factor's `cov_shape`.
        derived: Powers and Cholesky factors as of the last `update_inverses`; zeros
            before it.
        computed: 0-d boolean: whether `update_inverses` ever ran.
        cov_ok: 0-d boolean: False if, under a trace, the last `update_cov` would have
            raised; the update was then refused, and nothing else changed.
        derived_ok: 0-d boolean: the same for the last `update_inverses`.
        extra: Tuple of further arrays that a kind of factor keeps; most keep none.
        made_by: What kind of spec the state belongs to, and what that spec serves: an
            empty tuple, whose type tells both.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> factor = NaiveFullFactor(size=1)
        >>> gradient = np.asarray([2.0])
        >>> state = factor.init(gradient)
        >>> state = factor.update_cov(state, gradient, batch_size=1, ema_decay=0.5)
        >>> bool(state.computed), bool(state.cov_ok)
        (False, True)
        >>> state.cov.total
        array([[4.]])
    """

    cov: MovingAverage
    derived: Derived
    computed: Array
    cov_ok: Array
    derived_ok: Array
    extra: tuple[Any, ...] = ()
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether neither of the last updates was refused."""
        return self.cov_ok & self.derived_ok


def first_state(
    factor: "FisherFactor", like: Array, dtype: DType | None = None
) -> FactorState:
    """Return the state before any data; see `FisherFactor.init`.

    Args:
        factor: The spec.
        like: Array that gives library, device and dtype.
        dtype: The dtype of the statistics; None: that of `like`, at least float32.

    Returns:
        The state.
    """
    backend = backend_for(factor.label, "like", like)
    if dtype is None:
        dtype = statistics_dtype(backend, like, "like", factor.label)
    device = backend.creation_device(like)
    total = backend.xp.zeros(factor.cov_shape, dtype=dtype, device=device)
    if not factor.zero_debias:
        total = factor.form.initial(backend, total, factor)
    start = 0.0 if factor.zero_debias else 1.0
    weight = backend.xp.full((), start, dtype=dtype, device=device)
    return empty_state(backend, MovingAverage(total, weight), factor)


def state_with_statistics_of(factor: "FisherFactor", state: FactorState) -> FactorState:
    """Return a state with statistics alone; see `FisherFactor.init_inverses`.

    Args:
        factor: The spec.
        state: State of the spec, or of one that serves something else.

    Returns:
        The state.
    """
    if type(state) is not FactorState:
        check_kind(state, factor.signature, factor.label)
    backend = backend_for(factor.label, "state", state.cov.total)
    check_statistics(backend, state, factor.cov_shape, factor.label)
    check_kind(state, factor.signature, factor.label)
    return empty_state(backend, state.cov, factor)


def empty_state(
    backend: Backend, cov: MovingAverage, factor: "FisherFactor"
) -> FactorState:
    """Return a state with statistics and nothing computed from them.

    Args:
        backend: Backend of the arrays.
        cov: The statistics.
        factor: The spec.

    Returns:
        The state.
    """
    form, like = factor.form, cov.total

    # No array stands in two places, so that a state can be donated to a compiler.
    def powers(served: tuple[Any, ...]) -> tuple[Array, ...]:
        return tuple([form.empty_power(backend, like, factor) for _ in served])

    eigen: tuple[Eigendecomposition, ...] = ()
    if factor.eigendecomposition:
        eigen = (form.empty_eigendecomposition(backend, like, factor),)
    derived = Derived(
        dampings=tuple([form.empty_damping(backend, cov) for _ in factor.damping_ids]),
        matpowers=powers(factor.stored_matpowers),
        choleskys=powers(factor.cholesky),
        cholesky_inverses=powers(factor.cholesky_inverse),
        eigendecompositions=eigen,
    )
    device = backend.creation_device(cov.weight)
    computed = backend.xp.zeros((), dtype=backend.xp.bool, device=device)
    extra = form.empty_extra(backend, like, factor)
    made_by = factor._signed()
    cov_ok, derived_ok = kept(~computed), kept(~computed)
    return FactorState(cov, derived, computed, cov_ok, derived_ok, extra, made_by)


def check_statistics(
    backend: Backend, state: FactorState, cov_shape: tuple[int, ...], label: str
) -> None:
    """Check that a state's statistics can be those of a factor.

    Args:
        backend: Backend of the state.
        state: The state.
        cov_shape: Shape of the factor's statistics.
        label: Name of the factor, for the message.

    Raises:
        ShapeError: If the statistics are of another shape.
        DTypeError: If the statistics are neither float32 nor float64.
    """
    total = state.cov.total
    if tuple(total.shape) != cov_shape:
        msg = (
            f"{label}: the state has statistics of shape {tuple(total.shape)}, expected"
            f" {cov_shape}; it was made by another spec: use init of this one"
        )
        raise ShapeError(msg)
    if total.dtype != backend.xp.float32 and total.dtype != backend.xp.float64:
        msg = (
            f"{label}: the state has dtype {total.dtype}, expected float32 or float64:"
            " averages in half precision stop moving; use init"
        )
        raise DTypeError(msg)


def checked_backend(
    factor: "FisherFactor", state: FactorState, arguments: str, data: tuple[Array, ...]
) -> Backend:
    """Return the backend of a state and of data, once the state's form is checked.

    Args:
        factor: The spec.
        state: The state.
        arguments: Names of the state and the data, for the message.
        data: Arrays of the same library and device.

    Returns:
        The backend; with data, its products have the precision of the statistics.

    Raises:
        StateError: If another kind of spec made the state.
        KfacError: What `check_statistics` raises.
    """
    made_by, label = factor._made_by, factor.label
    if type(state) is not FactorState:
        check_made_by(state, made_by, label)
    backend = backend_for(label, arguments, state.cov.total, *data)
    check_statistics(backend, state, factor._shape, label)
    if type(state.made_by) is not type(made_by):
        check_made_by(state, made_by, label)
    if data and factor.precision != "highest":  # which is that of the backend
        return backend.in_precision(factor.precision)
    return backend


def check_computed(backend: Backend, state: FactorState, label: str) -> None:
    """Check that `update_inverses` has run, where that is known.

    Args:
        backend: Backend of the state.
        state: The state.
        label: Name of the factor, for the message.

    Raises:
        NotComputedError: If it has not run.
    """
    if not backend.known_number(state.computed) and is_known_false(
        backend, state.computed
    ):
        msg = (
            f"{label}: a power or Cholesky factor is read before anything computed it;"
            " call update_inverses first"
        )
        raise NotComputedError(msg)
