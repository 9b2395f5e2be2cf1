"""The factor of a grouped layer: one second moment for each group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kfac_core import tree
from kfac_core.arguments import (
    as_sources,
    backend_for,
    check_shape,
    check_towers,
    statistics_dtype,
)
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base import messages
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.convolution.located_rows import counted_rows
from kfac_core.fisher_factors.forms.dense import DenseSquareMatrixFactor
from kfac_core.linalg import psd
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange
from kfac_core.linalg.stacks import MatrixStackOperator, diagonals
from kfac_core.moving_average import MovingAverage
from kfac_core.scalars import as_dampings, as_vector
from kfac_core.state import all_finite, check_finite
from kfac_core.statistics.rows import second_moment
from kfac_core.statistics.weighted_rows import weigh
from kfac_core.typing import Array, DampingId, Dampings, Scalar, Sources, Weights


@dataclass(frozen=True)
class GroupedKroneckerFactor(DenseSquareMatrixFactor):
    """Second moments of rows, one matrix for each group.

    A layer in groups, such as a grouped or depthwise convolution, is many layers side
    by side: each group has inputs and outputs of its own. All methods act on each
    group, and return stacks ``[num_groups, ...]`` of matrices, traces or eigenvalues. A
    damping may be an array ``[num_groups]``, one for each group.

    Attributes:
        num_groups: Number of groups.
        size: Length of a row of one group.
        has_bias: Whether each row ends in a one that is not stored.
        data_name: What the rows are called in messages.

    Example:
        >>> import numpy as np
        >>> factor = GroupedKroneckerFactor(num_groups=2, size=1)
        >>> rows = np.asarray([1.0, 2.0, 3.0, 4.0]).reshape(2, 1, 2, 1)
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.0)
        >>> factor.get_cov(state)
        array([[[ 5.]],
        <BLANKLINE>
               [[10.]]])
    """

    num_groups: int
    size: int
    has_bias: bool = False
    data_name: str = field(default="tensors", kw_only=True)

    @property
    def dimension(self) -> int:
        """Length of a row of one group, with the one for the bias."""
        return self.size + self.has_bias

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(num_groups, n, n)``."""
        return (self.num_groups, self.dimension, self.dimension)

    def update_cov(
        self,
        state: FactorState,
        tensors: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moments of a batch into the average.

        Args:
            state: The state; left as it is.
            tensors: Rows ``[batch, locations, num_groups, size]``; or a tuple of these
                (towers, weighted by their rows); or a tuple of such tuples (sources,
                summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each row counts, ``[batch]`` or ``[batch, locations]``, or
                a tuple of these (towers): zero for a case that does not count; None:
                one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, or there is no row.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        sources = as_sources(tensors)
        backend = self._backend(
            state, "state, tensors", *(x for towers in sources for x in towers)
        )
        dtype, name = state.cov.total.dtype, self.data_name
        shape = ("batch", "locations", self.num_groups, self.size)
        checked = [
            check_towers(backend, towers, dtype, shape, name, self.label)
            for towers in sources
        ]
        shapes = [tuple(x.shape[:2]) for x in checked[0]]
        roots, count = counted_rows(
            backend, weights, shapes, num_cases, state.cov.total, self.label
        )
        moments = []
        for rows in checked:
            if roots is not None:
                rows = tuple(
                    weigh(backend, x, backend.xp.reshape(r, shape))
                    for x, r, shape in zip(rows, roots, shapes, strict=True)
                )
            by_group = [backend.xp.permute_dims(x, (2, 0, 1, 3)) for x in rows]
            moment = partial(self._moment, backend, roots, count)
            moments.append(backend.vmap(moment, *by_group))
        data = {name: sources}
        return self._accumulate(backend, state, moments, ema_decay, ema_weight, data)

    def get_cov_as_linear_operator(self, state: FactorState) -> MatrixStackOperator:
        """Return the estimated matrices as an operator on stacks."""
        return MatrixStackOperator(self.get_cov_var(state))

    def get_eigendecomp(self, state: FactorState) -> Eigendecomposition:
        """Return the eigendecompositions of the current statistics.

        Args:
            state: The state.

        Returns:
            Eigenvalues ``[num_groups, n]``, ascending, clipped at zero; eigenvectors
            ``[num_groups, n, n]``.
        """
        backend = self._backend(state)
        return self._decomposed(backend, self.get_cov_var(state))

    def left_multiply_matpower(
        self,
        state: FactorState,
        x: Array,
        exp: float,
        damping_id: DampingId = DEFAULT_DAMPING_ID,
    ) -> Array:
        """Return ``(C_i + damping_i I)^exp @ x_i`` for each group ``i``.

        Args:
            state: The state.
            x: ``[num_groups, n, k]``.
            exp: A registered exponent.
            damping_id: Its damping id.

        Returns:
            The products, of the shape and dtype of `x`.

        Raises:
            ShapeError: If `x` has another shape.
            NotFiniteError: If `x` holds NaN or infinity. Under a trace the product
                holds it, too.
        """
        backend = self._stack_backend(state, x, (self.num_groups, self.dimension, "k"))
        power = self.get_matpower(state, exp, damping_id)
        return backend.xp.astype(power.matmul(x), x.dtype)

    def right_multiply_matpower(
        self,
        state: FactorState,
        x: Array,
        exp: float,
        damping_id: DampingId = DEFAULT_DAMPING_ID,
    ) -> Array:
        """Return ``x_i @ (C_i + damping_i I)^exp``, with `x` ``[num_groups, k, n]``."""
        backend = self._stack_backend(state, x, (self.num_groups, "k", self.dimension))
        power = self.get_matpower(state, exp, damping_id)
        return backend.xp.astype(power.matmul_right(x), x.dtype)

    def _moment(
        self,
        backend: Backend,
        roots: Sequence[Array] | None,
        count: Array | None,
        *towers: Array,
    ) -> Array:
        """Return the second moment of one group, of rows ``[batch, locations, n]``."""
        xp = backend.xp
        rows = [xp.reshape(x, (-1, self.size)) for x in towers]
        return second_moment(
            backend, rows, has_bias=self.has_bias, roots=roots, count=count
        )

    def _identity(self, backend: Backend, like: Array) -> Array:
        return like * 0 + super()._identity(backend, like)

    def _operator(self, backend: Backend, stored: Array) -> MatrixStackOperator:
        return MatrixStackOperator(stored)

    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        # Only the power 1 comes here; the others are derived.
        return backend.vmap(partial(super()._power, backend, exp=exp), cov, damping)

    def _entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        return diagonals(backend, statistic)

    def _empty_eigendecomposition(
        self, backend: Backend, like: Array
    ) -> Eigendecomposition:
        return Eigendecomposition(diagonals(backend, like) * 0, like * 0)

    def _derive(
        self, backend: Backend, cov: Array, dampings: Mapping[DampingId, Array]
    ) -> Derived:
        of_one = super()._derive

        def of_group(cov: Array, values: tuple[Array, ...]) -> Derived:
            return of_one(backend, cov, dict(zip(dampings, values, strict=True)))

        return backend.vmap(of_group, cov, tuple(dampings.values()))

    def _residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        damping_id: DampingId,
    ) -> ResidualRange:
        total, weight = state.cov
        inverses = self._stored_inverse(state, damping_id)

        def of_group(total: Array, damping: Array, inverse: Array) -> ResidualRange:
            return self._krylov(backend, MovingAverage(total, weight), damping, inverse)

        return backend.vmap(of_group, total, damping, inverses)

    def _not_positive_definite(
        self, backend: Backend, cov: Array, dampings: Mapping[DampingId, Array]
    ) -> Exception:
        """Name the first group that is not positive definite."""
        known = backend.is_finite(cov)
        parts = tree.members(self._derive(backend, cov, dampings))
        finite = [bool(all_finite(backend, part, known)) for part in parts]
        # If the factor computes in float64, the rounding to float32 may overflow.
        i = 0 if all(finite) else finite.index(False)
        smallest = min((float(d[i]) for d in dampings.values()), default=0.0)
        return messages.not_positive_definite(
            backend,
            f"{self.label}, group {i}",
            psd.trace(backend, cov[i, :, :]),
            self.dimension,
            smallest,
        )

    def _empty(self, backend: Backend, cov: MovingAverage) -> FactorState:
        state = super()._empty(backend, cov)
        dampings = tuple(self._zeros(backend, cov.total) for _ in self.damping_ids)
        return state._replace(derived=state.derived._replace(dampings=dampings))

    def _dampings(
        self, backend: Backend, damping: Dampings, like: Array
    ) -> dict[DampingId, Array]:
        """Return for each damping id one damping for each group, ``[num_groups]``."""
        ids, label = self.damping_ids, self.label
        # Added to zeros: a new array for each id.
        zeros = self._zeros(backend, like)
        if isinstance(damping, Mapping) or not getattr(damping, "shape", ()):
            same = as_dampings(backend, damping, ids, like, label)
            return {key: zeros + value for key, value in same.items()}
        given: Any = damping
        by_group = as_vector(backend, given, self.num_groups, like, "damping", label)
        return dict(zip(ids, [zeros + by_group for _ in ids], strict=True))

    def _zeros(self, backend: Backend, like: Array) -> Array:
        device = backend.creation_device(like)
        return backend.xp.zeros((self.num_groups,), dtype=like.dtype, device=device)

    def _stack_backend(
        self, state: FactorState, x: Array, shape: tuple[int | str, ...]
    ) -> Backend:
        """Check the shape of a stack of finite numbers, and return its backend."""
        backend = self._backend(state)
        backend_for(self.label, "state, x", state.cov.total, x)
        statistics_dtype(backend, x, "x", self.label)
        check_shape(x, shape, "x", self.label)
        check_finite(backend, x, "x", self.label)
        return backend
