"""`LowRank`: the form for fewer rows than columns, which keeps rows alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core import moving_average
from kfac_core.arguments.sizes import as_size
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import decomposed
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.forms.powers import PowersForm
from kfac_core.linalg import psd
from kfac_core.linalg.low_rank import LowRankOperator, power_core
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.moving_average import MovingAverage, Sample
from kfac_core.state import is_known_false
from kfac_core.statistics.weighted_rows import Rows, with_ones
from kfac_core.typing import Array, DampingId


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
class LowRank(PowersForm):
    """The latest rows, for matrices with more columns than rows that are kept.

    ``C = sum_r w_r x_r x_r' / sum_r w_r`` over the `max_rows` latest rows, where the
    weights decay as in the moving average. The matrix equals the dense one as long as
    no row that still has weight is dropped; after that it is the same average without
    the dropped rows. With ``R = max_rows`` and ``n`` columns, `update_inverses` costs
    ``R^2 n`` and a product with ``[n, k]`` costs ``R n k``. Only `get_cov` and
    `get_eigendecomp` make anything of the size ``[n, n]``. The form serves powers
    alone, computed by `kfac_core.linalg.low_rank`; a negative power needs a damping
    above the rounding of the trace. Only small matrices are factorised, so that
    `newton_steps` makes no difference.

    The rows are kept as ``[max_rows, n + 1]``, the latest last. Each is multiplied by
    the root of its weight, and ends in that root. The rows of ``k`` sources count ``k``
    times, since the matrix is a mean of sums over sources. Rows of weight zero take no
    place, and the matrix is the mean of the kept rows by their weights. Without
    debiasing, the initial zero is a first row of weight one, and is dropped as others
    are.

    Attributes:
        max_rows: Number of rows to keep: at least all rows of one batch, with all its
            towers and sources. With batches of ``N`` rows and an ``ema_decay`` ``d``,
            the last ``k N`` rows have all but ``d^k`` of the weight.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> form = LowRank(max_rows=2)
        >>> factor = kc.factors.FullyConnectedKroneckerFactor(
        ...     4, form=form, matpowers=(-1,)
        ... )
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
    takes_any_length: ClassVar[bool] = False
    joins_sources: ClassVar[bool] = True
    structure: ClassVar[str] = "a matrix of low rank"

    def __post_init__(self) -> None:
        """Check the number of rows.

        Raises:
            ArgumentError: If it is not a positive integer.
        """
        rows = as_size(self.max_rows, "max_rows", type(self).__name__)
        object.__setattr__(self, "max_rows", rows)

    def shape(self, size: int) -> tuple[int, ...]:
        return (self.max_rows, size + 1)

    def check(self, factor: FisherFactor) -> None:
        """Check the options.

        Raises:
            ArgumentError: If anything but powers is to be served, or if the initial
                value is the identity.
        """
        super().check(factor)
        if not factor.zero_debias and not factor.init_covariances_at_zero:
            msg = (
                f"{factor.label}: init_covariances_at_zero is False, but the identity"
                " is not of low rank; start at zero, or use zero_debias=True"
            )
            raise ArgumentError(msg)

    def initial(self, backend: Backend, zeros: Array, factor: FisherFactor) -> Array:
        xp, last = backend.xp, zeros[-1:, :]
        # A row of zeros, whose weight is one.
        row = xp.concat([last[:, :-1], last[:, -1:] + 1], axis=1)
        kept: Array = xp.concat([zeros[:-1, :], row], axis=0)
        return kept

    def of_rows(self, backend: Backend, rows: Rows, has_bias: bool) -> _Latest:
        arrays, roots, count = rows
        ended = with_ones(backend, arrays, roots, 1 + has_bias)
        joined: Array = backend.xp.concat(ended, axis=0)
        number = joined.shape[0] if count is None else count
        return _Latest(joined * number**-0.5, roots is not None)

    def joined_sources(
        self,
        backend: Backend,
        samples: Sequence[Array | Sample],
        factor: FisherFactor,
    ) -> Sequence[Sample]:
        """Return the rows of all sources, to take the place of the oldest."""
        xp = backend.xp
        latest = [sample for sample in samples if isinstance(sample, _Latest)]
        rows = xp.concat([sample.rows for sample in latest], axis=0)
        if rows.shape[0] > self.max_rows:
            data_name = getattr(factor, "data_name", "a batch")
            msg = (
                f"{factor.label}: {data_name} has {rows.shape[0]} rows, those of all"
                f" towers and sources together, but max_rows is {self.max_rows}; make"
                " the form with a larger max_rows, or give fewer rows"
            )
            raise ShapeError(msg)
        # Sources are summed: the rows of each count, but share the weight of one.
        shared = rows[:, -1:] * len(latest) ** -0.5
        rows = xp.concat([rows[:, :-1], shared], axis=1)
        return [_Latest(rows, any(sample.is_weighted for sample in latest))]

    def union(
        self,
        backend: Backend,
        averages: Sequence[MovingAverage],
        factor: FisherFactor,
    ) -> MovingAverage:
        """Return all rows that have weight, those of the first average first.

        Raises:
            ShapeError: If they are more than `max_rows`. Under a trace the rows are
                NaN, which is refused.
        """
        xp, weight = backend.xp, moving_average.added(backend, averages).weight
        rows = xp.concat([average.total for average in averages], axis=0)
        counts = xp.astype(rows[:, -1] > 0, xp.int32)
        number = xp.sum(counts)
        fits = number <= self.max_rows
        if is_known_false(backend, fits):
            msg = (
                f"{factor.label}: the states have {int(number)} rows with weight"
                f" together, but max_rows is {self.max_rows}; make the form with"
                f" max_rows={int(number)} or more"
            )
            raise ShapeError(msg)
        latest = xp.argsort(counts, stable=True)[-self.max_rows :]
        joined = xp.take(rows, latest, axis=0)
        joined = xp.where(fits, joined, xp.full_like(joined, float("nan")))
        return moving_average.constant(backend, joined, weight)

    def operator(
        self, backend: Backend, kept: Array, factor: FisherFactor
    ) -> LowRankOperator:
        """Return the matrix of kept rows, on the scale of these rows."""
        xp, roots = backend.xp, kept[:, -1]
        norm = xp.sqrt(xp.sum(roots * roots))
        rows = kept[:, :-1] / xp.where(norm > 0, norm, xp.ones_like(norm))
        return LowRankOperator(xp.zeros_like(norm), rows)

    def damped(
        self, backend: Backend, cov: Array, damping: Array, factor: FisherFactor
    ) -> LowRankOperator:
        return self.operator(backend, cov, factor)._replace(scale=damping)

    def kept_power(
        self, backend: Backend, state: FactorState, place: int, factor: FisherFactor
    ) -> LowRankOperator:
        exp, key = factor.stored_matpowers[place]
        damping = state.derived.dampings[factor.damping_ids.index(key)]
        return LowRankOperator(
            psd.positive_power(backend, damping, exp),
            state.extra[0],
            state.derived.matpowers[place],
        )

    def powers(
        self,
        backend: Backend,
        cov: Array,
        wanted: Sequence[tuple[float, Array]],
        factor: FisherFactor,
    ) -> tuple[Array, ...]:
        """Return the cores of powers, for the rows of a matrix of trace one."""
        xp = backend.xp
        # 1. Scale the rows U: C = scale U'U, with tr(U'U) = 1 or less, so that powers
        #    of U'U stay in the range of the dtype.
        dampings = [damping for _, damping in wanted]
        rows, scale = self._scaled(backend, cov, dampings, factor)
        # 2. The small matrix U U', [R, R], has all eigenvalues of U'U but zeros.
        gram = backend.gram(rows.mT)
        # 3. The least damping, relative to the scale, that a negative power can have.
        #    Along the rows such a power is a small difference of two terms, each as
        #    large as the power of the damping; below 2 eps tr(U U') rounding could make
        #    the difference negative.
        served = xp.float32 if factor.inverse_dtype else gram.dtype
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

    def eigenbasis(
        self, backend: Backend, cov: Array, factor: FisherFactor
    ) -> Eigenbasis:
        rows = self.operator(backend, cov, factor).rows
        if rows.shape[0] >= rows.shape[1]:
            return super().eigenbasis(backend, cov, factor)
        found = decomposed(backend, backend.gram(rows.mT), factor.label)
        return Eigenbasis(found.values, (_vectors(backend, rows, found),))

    def empty_power(self, backend: Backend, like: Array, factor: FisherFactor) -> Array:
        return self._zeros(backend, like, self.max_rows)

    def empty_extra(
        self, backend: Backend, like: Array, factor: FisherFactor
    ) -> tuple[Array]:
        return (self._zeros(backend, like, factor.dimension),)

    def extra(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> tuple[Array]:
        """Return the current rows, on the scale that the cores of all powers have."""
        served = [dampings[key] for _, key in factor.stored_matpowers]
        rows, _ = self._scaled(backend, cov, served, factor)
        return (rows,)

    def entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        # The trace sums these: if it is finite, the statistics of all rows are.
        return backend.xp.sum(statistic * statistic, axis=1)

    def _scaled(
        self,
        backend: Backend,
        cov: Array,
        dampings: Iterable[Array],
        factor: FisherFactor,
    ) -> tuple[Array, Array]:
        """Return rows of a matrix of trace one, and the scale of the original matrix.

        Powers of numbers near one stay in range, where powers of the rows may not. The
        scale is the trace, or the rounding of a damping if the trace is smaller, so
        that the damping divided by the scale stays in range, too. The scale of zeros
        without damping is one.
        """
        xp, rows = backend.xp, self.operator(backend, cov, factor).rows
        scale = xp.sum(rows * rows)
        for damping in dampings:
            scale = xp.maximum(scale, damping * float(xp.finfo(scale.dtype).eps))
        scale = xp.where(scale > 0, scale, xp.ones_like(scale))
        return rows / xp.sqrt(scale), scale

    def _zeros(self, backend: Backend, like: Array, columns: int) -> Array:
        device = backend.creation_device(like)
        shape = (self.max_rows, columns)
        return backend.xp.zeros(shape, dtype=like.dtype, device=device)


def _vectors(backend: Backend, rows: Array, found: Eigendecomposition) -> Array:
    """Return the eigenvectors of ``U' U``, ``[n, r]``, from those of ``U U'``.

    They are ``U' v / sqrt(s)``, and zero where the eigenvalue is no more than the
    rounding of the others: the matrix has no such direction.
    """
    xp, values = backend.xp, found.values
    noise = xp.max(values) * (rows.shape[0] * float(xp.finfo(values.dtype).eps))
    is_there = values > noise
    divisor = xp.sqrt(xp.where(is_there, values, xp.ones_like(values)))
    scale = xp.where(is_there, 1 / divisor, xp.zeros_like(values))
    return backend.matmul(rows.mT, found.vectors) * scale[None, :]
