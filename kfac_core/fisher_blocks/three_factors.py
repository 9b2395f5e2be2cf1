"""A Kronecker product of three factors, damped in each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self, get_args

from kfac_core.arguments import as_scalar, backend_for
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.base import FisherBlock, check_option
from kfac_core.fisher_factors import (
    FactorState,
    FisherFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.linalg.kronecker import kron
from kfac_core.linalg.operators import LinearOperator
from kfac_core.linalg.parameters import check_entries, params_to_vector
from kfac_core.linalg.parameters import vector_to_params as as_params
from kfac_core.registry import backend_of
from kfac_core.signature import UNSIGNED, Signature, check_kind
from kfac_core.state import select
from kfac_core.typing import Array, Params, Scalar, Sources, Towers

SplitDamping = Literal["pi", "off", "constant"]
"""How the damping of a product becomes that of its factors."""


class ThreeFactorsState(NamedTuple):
    """State of a `ThreeFactorsFB`.

    Attributes:
        first_factor: State of the factor of the first input.
        second_factor: State of that of the second.
        output_factor: State of that of the output gradients.
        damping: 0-d, the damping given to the last `update_inverses`.
        made_by: What kind of block the state belongs to, and what it serves.
    """

    first_factor: FactorState
    second_factor: FactorState
    output_factor: FactorState
    damping: Array
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.first_factor.ok & self.second_factor.ok & self.output_factor.ok

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for all factors."""
        first, second, third = (getattr(factor, name) for factor in self[:3])
        every: Array = first & second & third
        return every

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of all factors set."""
        # An array for each: none stands in two places of a state.
        flags: list[dict[str, Any]] = [{name: ok & ok} for _ in range(3)]
        first, second, third = (
            factor._replace(**flag)
            for factor, flag in zip(self[:3], flags, strict=True)
        )
        return self._replace(
            first_factor=first, second_factor=second, output_factor=third
        )


@dataclass(frozen=True)
class ThreeFactorsFB(FisherBlock[ThreeFactorsState]):
    """``F = kron(A1, A2, G)``: two inputs and the output gradients, all independent.

    Damped, each factor ``M`` becomes ``M + m I``; see `split_in_three`.

    Attributes:
        first_size: Length of a row of the first input.
        second_size: Length of a row of the second input.
        output_size: Length of a row of outputs.
        damping_type: ``"pi"``, ``"off"`` or ``"constant"``; see `split_in_three`.
        first_factor: The factor ``A1``, made from the block's fields.
        second_factor: The factor ``A2``, likewise.
        output_factor: The factor ``G``, likewise.
    """

    first_size: int
    second_size: int
    output_size: int
    damping_type: SplitDamping = "pi"
    first_factor: FisherFactor = field(init=False, repr=False, compare=False)
    second_factor: FisherFactor = field(init=False, repr=False, compare=False)
    output_factor: FisherFactor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the factors, once.

        Raises:
            ArgumentError: If the way to damp is unknown.
        """
        super().__post_init__()
        allowed = get_args(SplitDamping)
        check_option(self.damping_type, allowed, "damping_type", self.label)
        for name, size, data in (
            ("first_factor", self.first_size, "the first inputs"),
            ("second_factor", self.second_size, "the second inputs"),
            ("output_factor", self.output_size, "outputs_grads"),
        ):
            factor = FullyConnectedKroneckerFactor(
                size, data_name=data, name=f"{self.label} ({name})", **self._served()
            )
            object.__setattr__(self, name, factor)

    def init(self, like: Array) -> ThreeFactorsState:
        """Return the state before any data; see `FisherBlock.init`."""
        first, second, third = (factor.init(like) for factor in self._all)
        zero = first.cov.weight * 0
        return ThreeFactorsState(first, second, third, zero, self._made_by)

    def init_inverses(self, state: ThreeFactorsState) -> ThreeFactorsState:
        """Return `state` with its statistics, and nothing computed from them yet."""
        check_kind(state, self._made_by, self.label)
        pairs = zip(self._all, state[:3], strict=True)
        first, second, third = (factor.init_inverses(own) for factor, own in pairs)
        return ThreeFactorsState(first, second, third, state.damping, self._made_by)

    def update_covs(
        self,
        state: ThreeFactorsState,
        first: Towers,
        second: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> ThreeFactorsState:
        """Fold a batch into the statistics, its rows being checked against another."""
        self._own(state)
        ema = (ema_decay, ema_weight)
        data = (first, second, outputs_grads)
        a, b, g = (
            factor.update_cov(own, rows, *ema)
            for factor, own, rows in zip(self._all, state[:3], data, strict=True)
        )
        return self._whole(
            ThreeFactorsState(a, b, g, state.damping, self._made_by), state, "cov_ok"
        )

    def update_inverses(
        self, state: ThreeFactorsState, damping: Scalar
    ) -> ThreeFactorsState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        given, split = self._split(state, damping)
        a, b, g = (
            factor.update_inverses(own, part)
            for factor, own, part in zip(self._all, state[:3], split, strict=True)
        )
        return self._whole(
            ThreeFactorsState(a, b, g, given, self._made_by), state, "derived_ok"
        )

    def inverse_error(self, state: ThreeFactorsState, damping: Scalar) -> Array:
        """Return that of all factors; see `KroneckerProductFB.inverse_error`."""
        _, split = self._split(state, damping)
        backend = backend_of(state.damping)
        ranges = [
            factor.inverse_residual(own, part)
            for factor, own, part in zip(self._all, state[:3], split, strict=True)
        ]
        first, second, third = ranges
        # Linear in each eigenvalue, and so extreme where all three are.
        corners = [
            backend.xp.abs(1 - (1 - a) * (1 - b) * (1 - c))
            for a in first
            for b in second
            for c in third
        ]
        worst = corners[0]
        for corner in corners[1:]:
            worst = backend.xp.maximum(worst, corner)
        return worst

    def multiply_matpower(
        self, state: ThreeFactorsState, vector: Params, exp: float
    ) -> Params:
        """Return the powers of all three factors, times `vector`; see `FisherBlock`."""
        return self._multiply(
            state, vector, lambda factor, own: factor.get_matpower(own, exp)
        )

    def multiply_cholesky(
        self, state: ThreeFactorsState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return the Cholesky factors' product with `vector`; see `FisherBlock`."""
        return self._multiply(
            state,
            vector,
            lambda factor, own: factor.get_cholesky(own),
            adjoint=transpose,
        )

    def multiply_cholesky_inverse(
        self, state: ThreeFactorsState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return the product with the inverses of these; see `FisherBlock`."""
        return self._multiply(
            state,
            vector,
            lambda factor, own: factor.get_cholesky_inverse(own),
            adjoint=transpose,
        )

    def full_fisher_block(self, state: ThreeFactorsState) -> Array:
        """Return ``kron(A1, A2, G)`` of the current statistics, dense and undamped."""
        backend = backend_of(self._own(state).damping)
        first, second, third = (
            factor.get_cov(own)
            for factor, own in zip(self._all, state[:3], strict=True)
        )
        return kron(backend, kron(backend, first, second), third)

    @property
    def _all(self) -> tuple[FisherFactor, FisherFactor, FisherFactor]:
        return self.first_factor, self.second_factor, self.output_factor

    def _split(
        self, state: ThreeFactorsState, damping: Scalar
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return a damping as given, checked, and those of the factors."""
        backend = backend_for(self.label, self._own(state).damping)
        given = as_scalar(backend, damping, state.damping, "damping", self.label)
        means = [
            factor.trace(own) / factor.dimension
            for factor, own in zip(self._all, state[:3], strict=True)
        ]
        return given, split_in_three(backend, self.damping_type, given, means)

    def _whole(
        self, new: ThreeFactorsState, old: ThreeFactorsState, flag: str
    ) -> ThreeFactorsState:
        """Return `new`, or under a trace `old` if a factor refused its update."""
        ok = new.flag(flag)
        backend = backend_for(self.label, ok)
        if not backend.is_traced(ok):
            return new
        return select(backend, ok, new, old).with_flag(flag, ok)

    def _multiply(
        self,
        state: ThreeFactorsState,
        vector: Params,
        get: Callable[[FisherFactor, FactorState], LinearOperator],
        *,
        adjoint: bool = False,
    ) -> Params:
        backend = self._vector_backend(self._own(state), vector)
        sizes = (self.first_size, self.second_size, self.output_size)
        check_entries(vector, sizes[0] * sizes[1] * sizes[2], self.label)
        xp = backend.xp
        x = xp.reshape(params_to_vector(backend, vector), sizes)
        pairs = zip(self._all, state[:3], strict=True)
        for operator in [get(factor, own) for factor, own in pairs]:
            # Each factor meets the axis in front, which then goes to the end.
            flat = xp.reshape(x, (x.shape[0], -1))
            flat = operator.matmul(flat, adjoint=adjoint)
            x = xp.permute_dims(xp.reshape(flat, x.shape), (1, 2, 0))
        params = as_params(backend, xp.reshape(x, (-1,)), vector)
        return self._in_dtypes_of(backend, params, vector)


def split_in_three(
    backend: Backend, kind: SplitDamping, damping: Array, means: Sequence[Array]
) -> tuple[Array, ...]:
    """Return the dampings of the three factors of a product.

    With ``t`` the mean eigenvalues of the factors, ``"pi"`` damps each by
    ``t_i (damping / (t_1 t_2 t_3))^(1/3)``. Of all dampings whose product is
    `damping`, the error ``kron(M_i + m_i I) - kron(M_i) - damping I`` has the least
    trace for these: relative to the product's, it is ``sum x_i + sum x_i x_j`` with
    ``x_i = m_i / t_i``, whose product is given, and so least where all are equal. For
    two factors that is the ``pi`` of Martens & Grosse (2015), section 6.3. ``"off"``
    damps each by ``damping^(1/3)``, ``"constant"`` by `damping`.

    Args:
        backend: Backend of the arrays.
        kind: Name of the split.
        damping: 0-d.
        means: 0-d each; where one is zero, ``"pi"`` is ``"off"``.

    Returns:
        Three 0-d arrays.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> damping = np.asarray(8.0)
        >>> means = [np.asarray(x) for x in (4.0, 2.0, 1.0)]
        >>> split = split_in_three(backend_of(damping), "pi", damping, means)
        >>> [round(float(x), 12) for x in split]
        [4.0, 2.0, 1.0]
    """
    if kind == "constant":
        return (damping, damping, damping)
    xp, third = backend.xp, 1.0 / 3.0
    root, one = damping**third, xp.ones_like(damping)
    if kind == "off":
        return (root, root, root)
    positive = (means[0] > 0) & (means[1] > 0) & (means[2] > 0)
    roots = [xp.where(positive, mean, one) ** third for mean in means]

    # Traces whose ratios leave the range of float32 are as far apart as can be told.
    def ratio(x: Array, y: Array) -> Array:
        return xp.minimum(xp.maximum(x / y, one * 1e-18), one * 1e18)

    a, b, c = roots
    return (
        root * ratio(a, b) * ratio(a, c),
        root * ratio(b, a) * ratio(b, c),
        root * ratio(c, a) * ratio(c, b),
    )
