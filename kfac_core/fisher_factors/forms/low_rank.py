"""The factor for fewer rows than columns: it keeps rows, and never their matrix."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.forms.powers import PowersFactor
from kfac_core.fisher_factors.rows import RowsFactor
from kfac_core.linalg import psd
from kfac_core.linalg.low_rank import LowRankOperator, power_core
from kfac_core.moving_average import MovingAverage, Sample
from kfac_core.statistics.weighted_rows import Rows, with_ones
from kfac_core.typing import Array, DampingId, Scalar


@dataclass(frozen=True)
class _Latest(Sample):
    """The latest rows, to be added to the rows that a factor keeps.

    Attributes:
        rows: Rows, each times the root of its weight, and with that root at its end.
        is_weighted: Whether some rows may have the weight zero.
    """

    rows: Array
    is_weighted: bool

    def added(
        self, backend: Backend, weight: Array, decay: Array, total: Array
    ) -> Array:
        xp = backend.xp
        aged = total * xp.sqrt(decay)
        rows = self.rows * xp.sqrt(weight)
        if self.is_weighted:
            # Rows without weight come first, so that they displace no other row.
            joined = xp.concat([aged, rows], axis=0)
            counts = xp.astype(joined[:, -1] > 0, xp.int32)
            latest = xp.argsort(counts, stable=True)[rows.shape[0] :]
            return xp.take(joined, latest, axis=0)
        added = xp.concat([aged[rows.shape[0] :, :], rows], axis=0)
        return xp.where(weight > 0, added, aged)


@dataclass(frozen=True)
class FullyConnectedLowRankFactor(RowsFactor, PowersFactor):
    """Second moment of the latest rows, for layers with more columns than kept rows.

    ``C = sum_r w_r x_r x_r' / sum_r w_r`` over the `max_rows` latest rows, where the
    weights decay as in the moving average. The factor equals
    `FullyConnectedKroneckerFactor` as long as no row that still has weight is dropped;
    after that it is the same average without the dropped rows. With ``R = max_rows``
    and ``n`` columns, `update_inverses` costs ``R^2 n`` and a product with ``[n, k]``
    costs ``R n k``. Only `get_cov` and `get_eigendecomp` make anything of the size
    ``[n, n]``. The factor serves powers alone, computed by `kfac_core.linalg.low_rank`;
    a negative power needs a damping above the rounding of the trace. Only small
    matrices are factorised, so that `newton_steps` makes no difference.

    The rows are stored as ``[max_rows, n + 1]``, the latest last. Each is multiplied by
    the root of its weight, and ends in that root. The rows of ``k`` sources count ``k``
    times, since the matrix is a mean of sums over sources. Rows of weight zero take no
    place, and the matrix is the mean of the kept rows by their weights. Without
    debiasing, the initial zero is a first row of weight one, and is dropped as others
    are.

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        max_rows: Number of rows to keep: at least all rows of one batch, with all its
            towers and sources. With batches of ``N`` rows and an ``ema_decay`` ``d``,
            the last ``k N`` rows have all but ``d^k`` of the weight.
        data_name: What the rows are called in messages.

    Example:
        >>> import numpy as np
        >>> factor = FullyConnectedLowRankFactor(4, max_rows=2, matpowers=(-1,))
        >>> rows = np.asarray([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 2.0]])
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.95)
        >>> factor.get_cov(state).round(6)
        array([[2., 0., 0., 0.],
               [0., 2., 0., 2.],
               [0., 0., 0., 0.],
               [0., 2., 0., 2.]])
        >>> state = factor.update_inverses(state, damping=0.5)
        >>> factor.get_inverse(state).matmul(np.ones((4, 1))).round(6).ravel()
        array([0.4     , 0.222222, 2.      , 0.222222])
    """

    max_rows: int = field(kw_only=True)
    is_mean_by_weight: ClassVar[bool] = True
    structure: ClassVar[str] = "a matrix of low rank"

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ArgumentError: If anything but powers is to be served, or if the initial
                value is the identity.
        """
        super().__post_init__()
        if not self.zero_debias and not self.init_covariances_at_zero:
            msg = (
                f"{self.label}: init_covariances_at_zero is False, but the identity is"
                " not of low rank; start at zero, or use zero_debias=True"
            )
            raise ArgumentError(msg)

    @property
    def dimension(self) -> int:
        """Length of a row, with the one for the bias."""
        return self.size + self.has_bias

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(max_rows, n + 1)``: rows, and the root of the weight of each."""
        return (self.max_rows, self.dimension + 1)

    def init(self, like: Array) -> FactorState:
        """Return the state before any data; see `FisherFactor.init`."""
        state = super().init(like)
        if self.zero_debias:
            return state
        backend, total = self._backend(state), state.cov.total
        xp, last = backend.xp, total[-1:, :]
        # A row of zeros, whose weight is one.
        zero = xp.concat([last[:, :-1], last[:, -1:] + 1], axis=1)
        total = xp.concat([total[:-1, :], zero], axis=0)
        return state._replace(cov=state.cov._replace(total=total))

    def get_matpower(
        self, state: FactorState, exp: float, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LowRankOperator:
        """Return ``(C + damping I)^exp``; see `FisherFactor.get_matpower`.

        Args:
            state: The state.
            exp: A registered exponent. The power 1 uses the current rows; all other
                powers use the rows of the last `update_inverses`.
            damping_id: Its damping id.

        Returns:
            The operator.

        Raises:
            NotRegisteredError: If the spec does not serve the power.
            NotComputedError: If `update_inverses` has not run yet.
        """
        backend = self._computed(state)
        key = self._key(exp, damping_id)
        is_fresh = key[0] == 1 and damping_id in self.damping_ids
        if not is_fresh and key not in self.stored_matpowers:
            raise self._not_registered(damping_id, "matpower", key[0])
        damping = state.derived.dampings[self.damping_ids.index(damping_id)]
        if is_fresh:
            return self._operator(backend, self.get_cov_var(state))._replace(
                scale=damping
            )
        place = self.stored_matpowers.index(key)
        return LowRankOperator(
            psd.positive_power(backend, damping, key[0]),
            state.extra[0],
            state.derived.matpowers[place],
        )

    def _sample(self, backend: Backend, rows: Rows) -> _Latest:
        return _Latest(self._moment(backend, rows), rows.roots is not None)

    def _moment(self, backend: Backend, rows: Rows) -> Array:
        """Return all rows of a source, times the root of the weight of each."""
        arrays, roots, count = rows
        ended = with_ones(backend, arrays, roots, 1 + self.has_bias)
        joined: Array = backend.xp.concat(ended, axis=0)
        number = joined.shape[0] if count is None else count
        moment: Array = joined * number**-0.5
        return moment

    def _accumulate(
        self,
        backend: Backend,
        state: FactorState,
        by_source: Sequence[Array | Sample],
        ema_decay: Scalar,
        ema_weight: Scalar | None,
        data: Mapping[str, tuple[tuple[Array, ...], ...]],
    ) -> FactorState:
        """Return the state with the rows of all sources in place of the oldest."""
        xp = backend.xp
        samples = [sample for sample in by_source if isinstance(sample, _Latest)]
        rows = xp.concat([sample.rows for sample in samples], axis=0)
        if rows.shape[0] > self.max_rows:
            msg = (
                f"{self.label}: {self.data_name} has {rows.shape[0]} rows, those of all"
                f" towers and sources together, but max_rows is {self.max_rows}; make"
                " the factor with a larger max_rows, or give fewer rows"
            )
            raise ShapeError(msg)
        # Sources are summed: the rows of each count, but share the weight of one.
        shared = rows[:, -1:] * len(by_source) ** -0.5
        joined = xp.concat([rows[:, :-1], shared], axis=1)
        latest = _Latest(joined, any(sample.is_weighted for sample in samples))
        return super()._accumulate(
            backend, state, [latest], ema_decay, ema_weight, data
        )

    def _operator(self, backend: Backend, stored: Array) -> LowRankOperator:
        """Return the matrix of stored rows, on the scale of these rows."""
        xp, roots = backend.xp, stored[:, -1]
        norm = xp.sqrt(xp.sum(roots * roots))
        rows = stored[:, :-1] / xp.where(norm > 0, norm, xp.ones_like(norm))
        return LowRankOperator(xp.zeros_like(norm), rows)

    def _scaled(
        self, backend: Backend, cov: Array, dampings: Iterable[Array]
    ) -> tuple[Array, Array]:
        """Return rows of a matrix of trace one, and the scale of the original matrix.

        Powers of numbers near one stay in range, where powers of the rows may not. The
        scale is the trace, or the rounding of a damping if the trace is smaller, so
        that the damping divided by the scale stays in range, too. The scale of zeros
        without damping is one.
        """
        xp, rows = backend.xp, self._operator(backend, cov).rows
        scale = xp.sum(rows * rows)
        for damping in dampings:
            scale = xp.maximum(scale, damping * float(xp.finfo(scale.dtype).eps))
        scale = xp.where(scale > 0, scale, xp.ones_like(scale))
        return rows / xp.sqrt(scale), scale

    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        (core,) = self._powers(backend, cov, [(exp, damping)])
        return core

    def _powers(
        self, backend: Backend, cov: Array, wanted: Sequence[tuple[float, Array]]
    ) -> tuple[Array, ...]:
        """Return the cores of powers, for the rows of a matrix of trace one."""
        xp = backend.xp
        # 1. Scale the rows U: C = scale U'U, with tr(U'U) = 1 or less, so that powers
        #    of U'U stay in the range of the dtype.
        rows, scale = self._scaled(backend, cov, [damping for _, damping in wanted])
        # 2. The small matrix U U', [R, R], has all eigenvalues of U'U but zeros.
        gram = backend.gram(rows.mT)
        # 3. The least damping, relative to the scale, that a negative power can have.
        #    Along the rows such a power is a small difference of two terms, each as
        #    large as the power of the damping; below 2 eps tr(U U') rounding could make
        #    the difference negative.
        served = xp.float32 if self.inverse_dtype else gram.dtype
        floor = 2 * float(xp.finfo(served).eps) * psd.trace(backend, gram)
        cores = []
        for exp, damping in wanted:
            # 4. (C + damping I)^p = scale^p (U'U + d I)^p with d = damping / scale,
            #    which is damping^p I + U' core U.
            ratio = damping / scale
            core = power_core(backend, gram, ratio, exp) * scale**exp
            # 5. A negative power with too little damping is NaN, which is refused.
            if exp < 0:
                core = xp.where(ratio > floor, core, xp.full_like(core, float("nan")))
            cores.append(core)
        return tuple(cores)

    def _derive_extra(
        self,
        backend: Backend,
        state: FactorState,
        dampings: Mapping[DampingId, Array],
    ) -> tuple[Array, ...]:
        """Return the current rows, on the scale that the cores of all powers have."""
        served = [dampings[key] for _, key in self.stored_matpowers]
        rows, _ = self._scaled(backend, self.get_cov_var(state), served)
        return (rows,)

    def _empty(self, backend: Backend, cov: MovingAverage) -> FactorState:
        state = super()._empty(backend, cov)
        device = backend.creation_device(cov.total)

        def zeros(columns: int) -> Array:
            shape = (self.max_rows, columns)
            return backend.xp.zeros(shape, dtype=cov.total.dtype, device=device)

        cores = tuple(zeros(self.max_rows) for _ in state.derived.matpowers)
        derived = state.derived._replace(matpowers=cores)
        return state._replace(derived=derived, extra=(zeros(self.dimension),))

    def _identity(self, backend: Backend, like: Array) -> Array:
        raise self._unserved()

    def _entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        # The trace sums these: if it is finite, the statistics of all rows are.
        return backend.xp.sum(statistic * statistic, axis=1)
