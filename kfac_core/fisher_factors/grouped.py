"""The factor of a grouped layer: one second moment for each group."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from kfac_core.arguments.arrays import (
    as_sources,
    backend_for,
    check_shape,
    check_towers,
    statistics_dtype,
)
from kfac_core.arguments.options import check_options
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.convolution.located_rows import counted_rows
from kfac_core.fisher_factors.forms.stack import Stack
from kfac_core.state import check_finite
from kfac_core.statistics.rows import second_moment
from kfac_core.statistics.weighted_rows import weigh
from kfac_core.typing import Array, DampingId, Scalar, Sources, Weights


@dataclass(frozen=True)
class GroupedKroneckerFactor(FisherFactor):
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
    form: Stack = field(init=False, repr=False, compare=False)

    forms: ClassVar[tuple[type[Form], ...]] = (Stack,)

    def __post_init__(self) -> None:
        """Make the form, once."""
        check_options(self)
        object.__setattr__(self, "form", Stack(groups=self.num_groups))
        super().__post_init__()

    @property
    def dimension(self) -> int:
        """Length of a row of one group, with the one for the bias."""
        return self.size + self.has_bias

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
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)

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
