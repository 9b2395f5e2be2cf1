"""The factor of a fully connected layer that every case uses several times."""

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar, Self

from kfac_core import moving_average
from kfac_core.arguments.arrays import as_sources, as_statistics
from kfac_core.arguments.options import check_options
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_factors.base import messages
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.options import (
    DEFAULT_DAMPING_ID,
    not_registered,
    place_of,
    with_id,
    write_ids,
)
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.fisher_factors.fully_connected import (
    FullyConnectedKroneckerFactor,
    Parts,
)
from kfac_core.fisher_factors.shared.lagged_state import (
    DenseWithLag,
    extra_of,
    lagged_value,
)
from kfac_core.linalg.series import Option1Quants, Option2Quants
from kfac_core.rows.counts import count_of
from kfac_core.rows.uses import MultiSources, all_arrays, in_parts
from kfac_core.state import commit
from kfac_core.statistics.rows import lagged_moment
from kfac_core.statistics.weighted_rows import weigh
from kfac_core.typing import Array, DampingId, Scalar, Uses, Weights

_OF_LAG_ONE = ("cov_dt1", "option1quants", "option2quants")
"""Fields that need statistics of lag one."""


@dataclass(frozen=True)
class FullyConnectedMultiKF(FullyConnectedKroneckerFactor):
    """Second moments of the rows of all uses of a shared layer, of lags zero and one.

    ``C0`` is the mean of ``x_t x_t'`` over cases and uses. ``C1`` is the sum of
    ``x_(t+1) x_t'``, divided by the number of all rows, too (Martens, Ba & Johnson,
    2018, section 3.5). Option 1 keeps the sign of eigenvalues, where
    ``tf.contrib.kfac`` takes negative correlation for positive. Neither option changes
    what the other reads.

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        num_uses: ``T``, or None where the data say it; see `kfac_core.rows.uses`. Only
            lag one needs it.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.
        cov_dt1: Whether to keep ``C1``. Either option keeps it anyway, and the
            eigendecomposition of ``C0``, which both options share.
        option1quants: Damping ids for which to keep what option 1 needs; see
            `kfac_core.linalg.series`.
        option2quants: Damping ids for which to keep what option 2 needs.
        data_name: What the rows are called in messages.

    Example:
        >>> import numpy as np
        >>> factor = FullyConnectedMultiKF(1, num_uses=3).register_option1quants()
        >>> rows = np.asarray([[1.0], [2.0], [4.0]])
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.95)
        >>> factor.get_cov(state), factor.get_cov_dt1(state)
        (array([[7.]]), array([[3.33333333]]))
        >>> state = factor.update_inverses(state, damping=1.0)
        >>> factor.get_option1quants(state).psi.round(6)
        array([0.416667])
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)
    cov_dt1: bool = field(default=False, kw_only=True)
    option1quants: tuple[DampingId, ...] = field(default=(), kw_only=True)
    option2quants: tuple[DampingId, ...] = field(default=(), kw_only=True)
    form: Form = field(default=DenseWithLag(), kw_only=True)

    served_fields: ClassVar[frozenset[str]] = (
        FullyConnectedKroneckerFactor.served_fields | {*_OF_LAG_ONE}
    )

    def __post_init__(self) -> None:
        """Register what the options need, before the list of what is served is made."""
        check_options(self)
        if type(self.form) is Dense:
            object.__setattr__(self, "form", DenseWithLag())
        write_ids(self, "option1quants", "option2quants")
        if self.option1quants or self.option2quants:
            object.__setattr__(self, "cov_dt1", True)
            object.__setattr__(self, "eigendecomposition", True)
        super().__post_init__()
        if self.cov_dt1 and not isinstance(self.form, DenseWithLag):
            given = [name for name in _OF_LAG_ONE if getattr(self, name)]
            msg = (
                f"{self.label}: form is {shown(self.form)}, but {' and '.join(given)}"
                " need statistics of lag one, which DenseWithLag alone keeps; leave"
                " form as it is, or these out"
            )
            raise ArgumentError(msg)

    def register_cov_dt1(self) -> Self:
        """Return a spec that keeps ``C1``; it needs a state from its own `init`."""
        return replace(self, cov_dt1=True)

    def register_option1quants(
        self, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Self:
        """Return a spec that keeps what option 1 needs, and ``C1``."""
        return with_id(self, "option1quants", damping_id)

    def register_option2quants(
        self, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Self:
        """Return a spec that keeps what option 2 needs, and ``C1``."""
        return with_id(self, "option2quants", damping_id)

    def get_cov_dt1(self, state: FactorState) -> Array:
        """Return ``C1``, ``[n, n]``, with the later use on the left.

        Raises:
            not_registered: If the spec does not keep ``C1``.
            NotComputedError: If there are no statistics yet.
        """
        backend = self._backend(state)
        if not self.cov_dt1:
            raise not_registered(self, "cov_dt1", None)
        return lagged_value(backend, state, self.label)

    def get_option1quants(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Option1Quants:
        """Return ``(lmat, psi)`` as stored; errors as in `get_matpower`."""
        self._computed(state)
        return extra_of(state).option1[place_of(self, "option1quants", damping_id)]

    def get_option2quants(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Option2Quants:
        """Return ``(pmat, kmat, mu)`` as stored; errors as in `get_matpower`."""
        self._computed(state)
        return extra_of(state).option2[place_of(self, "option2quants", damping_id)]

    def init_inverses(self, state: FactorState) -> FactorState:
        """Return `state` with its statistics, and nothing computed from them yet.

        Raises:
            ShapeError: If this spec keeps ``C1`` and the state has none.
        """
        new = super().init_inverses(state)
        if not self.cov_dt1:
            return new
        self._check_lagged(state)
        extra = extra_of(new)._replace(cov_dt1=extra_of(state).cov_dt1)
        return new._replace(extra=extra)

    def _union(self, states: tuple[FactorState, ...]) -> FactorState:
        new: FactorState = super()._union(states)
        if not self.cov_dt1:
            return new
        backend = self._backend(new)
        old = extra_of(states[0]).cov_dt1[0]
        # Products of two uses are bounded by squares, whose sum is finite.
        total = sum((extra_of(state).cov_dt1[0] for state in states[1:]), old)
        if backend.is_traced(new.cov_ok):
            total = backend.xp.where(new.cov_ok, total, old)
        return new._replace(extra=extra_of(new)._replace(cov_dt1=(total,)))

    def update_cov(
        self,
        state: FactorState,
        tensors: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moments of a batch into the averages.

        Args:
            state: The state; left as it is.
            tensors: One tower, in a form of `kfac_core.rows.uses`, a row of `size` for
                each use of each case; or a tuple of these (towers, weighted by their
                rows); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each row counts: ``[N]`` (cases), ``[T, N]``, ``[T * N]``
                or `Uses`; or a tuple of these (towers); None: one each. A pair of uses
                counts by the geometric mean of their weights.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, or there is no row.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the number of uses is not known or not `num_uses`, or the
                decay, a weight or `num_cases` is out of range.
        """
        sources = as_sources(tensors)
        ema = (ema_decay, ema_weight)
        new = super().update_cov(
            state, sources, *ema, weights=weights, num_cases=num_cases
        )
        if not self.cov_dt1:
            return new
        backend = self._backend(state, "state, tensors", *all_arrays(sources))
        like = state.cov.total
        by_source = [self._in_parts(backend, towers) for towers in sources]
        count = count_of(backend, num_cases, by_source[0][0].uses, like, self.label)
        sample, *others = (
            self._lagged(backend, own, weights, count, like) for own in by_source
        )
        for other in others:
            sample = sample + other
        decay, weight = moving_average.weights_of(
            backend, *ema, like, self.label, zero_debias=self.zero_debias
        )
        old = extra_of(state)
        total = backend.axpby(decay, old.cov_dt1[0], weight, sample)
        new = new._replace(extra=old._replace(cov_dt1=(total,)))
        ok = new.cov_ok & backend.is_finite(total)

        def error() -> Exception:
            # All data and their squares are finite: the sum is what overflowed.
            return messages.not_finite(
                backend, self.label, {self.data_name: ()}, like.dtype
            )

        return commit(backend, ok, new, state, error, "cov_ok")

    def _more_damping_ids(self) -> tuple[DampingId, ...]:
        return (*self.option1quants, *self.option2quants)

    @property
    def _is_batch_first(self) -> bool:
        return self.batch_first

    def _in_parts(self, backend: Backend, towers: tuple[Any, ...]) -> list[Parts]:
        found, in_order = [], self.cov_dt1  # of lag zero, all rows count alike
        for tower in towers:
            uses = self.num_uses
            is_split = isinstance(tower, Uses) or tower.ndim != 2
            if uses is None and not in_order and not is_split:
                uses = 1  # any number would do
            parts, uses = in_parts(
                backend,
                tower,
                2,
                uses,
                self.data_name,
                self.label,
                batch_first=self.batch_first,
                in_order=in_order,
            )
            # The rows of all uses of a case then follow one another.
            is_case_slow = self.batch_first and not isinstance(tower, Uses)
            found.append(Parts(parts, uses, is_case_slow and not in_order))
        return found

    def _lagged(
        self,
        backend: Backend,
        towers: list[Parts],
        weights: Weights | None,
        count: Array | None,
        like: Array,
    ) -> Array:
        """Return the lag-one statistics of a source whose form is checked."""
        in_time, roots_in_time = [], []
        roots = self._roots(backend, towers, weights, like)
        rest = iter(roots or ())
        for parts, uses, _ in towers:
            rows = [
                as_statistics(backend, x, like.dtype, self.data_name, self.label)
                for x in parts
            ]
            own = list(islice(rest, len(rows)))
            if own:
                rows = [weigh(backend, *pair) for pair in zip(rows, own, strict=True)]
            in_time.append((rows, uses))
            roots_in_time.append(own)
        return lagged_moment(
            backend,
            in_time,
            has_bias=self.has_bias,
            roots=None if roots is None else roots_in_time,
            count=count,
        )

    def _backend(
        self, state: FactorState, arguments: str = "state", *data: Array
    ) -> Backend:
        self._check_lagged(state)
        return super()._backend(state, arguments, *data)

    def _check_lagged(self, state: FactorState) -> None:
        if len(extra_of(state).cov_dt1) != int(self.cov_dt1):
            msg = (
                f"{self.label}: the state {'lacks' if self.cov_dt1 else 'has'}"
                " statistics of lag one; it was made by another spec: use init of this"
                " one"
            )
            raise ShapeError(msg)
