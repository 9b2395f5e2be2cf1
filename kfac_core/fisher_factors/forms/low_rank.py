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
    """Rows that stand for a matrix, and are added to others as their latest.

    Attributes:
        rows: Each times the root of its weight, in which it ends.
        is_weighted: Whether some may have the weight zero.
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
            # Rows without weight first, so that they take the place of none.
            joined = xp.concat([aged, rows], axis=0)
            counts = xp.astype(joined[:, -1] > 0, xp.int32)
            latest = xp.argsort(counts, stable=True)[rows.shape[0] :]
            return xp.take(joined, latest, axis=0)
        added = xp.concat([aged[rows.shape[0] :, :], rows], axis=0)
        return xp.where(weight > 0, added, aged)


@dataclass(frozen=True)
class FullyConnectedLowRankFactor(RowsFactor, PowersFactor):
    """Second moment of the latest rows, for layers wider than these are many.

    ``C = sum_r w_r x_r x_r' / sum_r w_r`` over the `max_rows` latest rows, where the
    weights decay as those of the moving average do. It equals
    `FullyConnectedKroneckerFactor` as long as no row that still has weight is dropped,
    and after that is the same average cut off. With ``R = max_rows`` and ``n``
    columns, `update_inverses` costs ``R^2 n`` and a product with ``[n, k]`` costs
    ``R n k``, and nothing of the size ``[n, n]`` is ever made, but by `get_cov` and
    `get_eigendecomp`. The powers are those of `kfac_core.linalg.low_rank`; they are
    all that it serves, negative ones with a damping above the rounding of the trace
    alone. What is factorised is small: `newton_steps` makes no difference.

    Stored are rows ``[max_rows, n + 1]``, the latest last: each times the root of its
    weight, which is also what it ends in. The rows of ``k`` sources count ``k`` times,
    as those sums do of which the matrix is a mean. Rows of weight zero take no place,
    and the matrix is a mean by the weights of the rows that are kept. Without
    debiasing, the initial zero is a first row of weight one, to be dropped as others
    are.

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        max_rows: Number of rows to keep: at least those of one batch, of all its
            towers and sources; with ``ema_decay`` ``d`` of batches of ``N``, the last
            ``k N`` rows have all but ``d^k`` of the weight.
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
            ArgumentError: If something is to be served that is not a power, or if the
                initial value is the identity.
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
            exp: A registered exponent; 1 is of the current rows, all others are of
                those of the last `update_inverses`.
            damping_id: Its damping id.

        Returns:
            The operator.

        Raises:
            NotRegisteredError: If the spec does not serve it.
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
        """Return the state with the rows of all sources, and as many older dropped."""
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
        # Sources are summed: their rows count as often, but share the weight of one.
        shared = rows[:, -1:] * len(by_source) ** -0.5
        joined = xp.concat([rows[:, :-1], shared], axis=1)
        latest = _Latest(joined, any(sample.is_weighted for sample in samples))
        return super()._accumulate(
            backend, state, [latest], ema_decay, ema_weight, data
        )

    def _operator(self, backend: Backend, stored: Array) -> LowRankOperator:
        """Return the matrix of stored rows, to whatever scale these are."""
        xp, roots = backend.xp, stored[:, -1]
        norm = xp.sqrt(xp.sum(roots * roots))
        rows = stored[:, :-1] / xp.where(norm > 0, norm, xp.ones_like(norm))
        return LowRankOperator(xp.zeros_like(norm), rows)

    def _scaled(
        self, backend: Backend, cov: Array, dampings: Iterable[Array]
    ) -> tuple[Array, Array]:
        """Return rows of a matrix of trace one, and what it is to be multiplied by.

        Powers of numbers near one stay in range, where those of the rows may not. A
        trace below the rounding of a damping counts as that, so that the damping
        divided by the multiple does too. Of zeros, undamped, the multiple is one.
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
        rows, scale = self._scaled(backend, cov, [damping for _, damping in wanted])
        gram = backend.gram(rows.mT)
        # Along the rows a negative power is a small difference of terms as large as
        # that of the damping: where rounding outweighs it, it may be negative.
        served = xp.float32 if self.inverse_dtype else gram.dtype
        floor = 2 * float(xp.finfo(served).eps) * psd.trace(backend, gram)
        cores = []
        for exp, damping in wanted:
            ratio = damping / scale
            core = power_core(backend, gram, ratio, exp) * scale**exp
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
        """Return the rows of now, scaled as those are that all cores belong to."""
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
        # What the trace sums: with it the statistics of all rows are finite.
        return backend.xp.sum(statistic * statistic, axis=1)
