"""A Kronecker product of three factors, each of them damped."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from kfac_core import moving_average
from kfac_core.arguments.arrays import as_towers, backend_for
from kfac_core.arguments.powers import as_exponent
from kfac_core.arguments.scalars import as_scalar
from kfac_core.arguments.sizes import as_flag
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.kronecker.three_dampings import (
    SplitDamping,
    split_in_three,
)
from kfac_core.fisher_blocks.kronecker.three_factors_state import ThreeFactorsState
from kfac_core.fisher_factors import (
    FactorState,
    FisherFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.fisher_factors.base.updating import inverse_residual
from kfac_core.fisher_factors.eigenbasis import eigenbasis
from kfac_core.linalg.kronecker import kron
from kfac_core.linalg.operators import LinearOperator
from kfac_core.linalg.parameters import check_entries, params_to_vector
from kfac_core.linalg.spectrum import Spectrum
from kfac_core.registry import backend_of
from kfac_core.rows.counts import check_mean_weight, counted, mean_weight
from kfac_core.rows.weights import sides, weights_for
from kfac_core.spec.signature import check_kind
from kfac_core.state import kept
from kfac_core.typing import Array, Params, RowWeights, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class ThreeFactorsFB(FisherBlock[ThreeFactorsState]):
    """``F = kron(A1, A2, G)``: two inputs and output gradients, all independent.

    Where rows have weights, all three statistics have their mean ``w`` as
    a factor, and the block has it once: each factor is its statistic over ``w^(2/3)``;
    see `KroneckerProductFB` for the range. Damped, each factor ``M`` becomes ``M + m
    I``; see `split_in_three`.

    Attributes:
        first_size: Length of a row of the first input.
        second_size: Length of a row of the second input.
        output_size: Length of a row of outputs.
        damping_type: ``"pi"``, ``"off"`` or ``"constant"``; see `split_in_three`.
        first_factor: The factor ``A1``, made from the block's fields.
        second_factor: The factor ``A2``, made from the block's fields.
        output_factor: The factor ``G``, made from the block's fields.
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
        weight = first.cov.weight
        return ThreeFactorsState(
            first,
            second,
            third,
            moving_average.of_number(weight),
            damping=kept(weight * 0),
            made_by=self._signed(),
        )

    def init_inverses(self, state: ThreeFactorsState) -> ThreeFactorsState:
        """Return `state` with its statistics, and nothing computed from them yet."""
        check_kind(state, self._made_by, self.label)
        pairs = zip(self._all, state[:3], strict=True)
        first, second, third = (factor.init_inverses(own) for factor, own in pairs)
        return state._replace(
            first_factor=first,
            second_factor=second,
            output_factor=third,
            damping=first.cov.weight * 0,
            made_by=self._signed(),
        )

    def update_covs(
        self,
        state: ThreeFactorsState,
        first: Towers,
        second: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> ThreeFactorsState:
        """Fold a batch into the statistics; the rows of its arrays are checked."""
        towers = as_towers(first)
        backend = backend_for(
            self.label, "state, inputs", self._own(state).damping, *towers
        )
        like = state.damping
        ema = self._ema(backend, ema_decay, ema_weight, like)
        shapes = [(x.shape[0],) for x in towers]
        rows = RowWeights(
            *(weights_for(backend, w, shapes, like, self.label) for w in sides(weights))
        )
        counts = counted(backend, rows, shapes, 1.0, num_cases, like, self.label)
        data = (
            (first, counts.of_inputs),
            (second, counts.of_inputs),
            (outputs_grads, counts.of_outputs),
        )
        a, b, g = (
            factor.update_cov(own, arrays, ema, **options)
            for factor, own, (arrays, options) in zip(
                self._all, state[:3], data, strict=True
            )
        )
        (average,) = moving_average.fold_numbers(
            backend, [state.weights], [counts.mean_weight], ema
        )
        new = state._replace(
            first_factor=a, second_factor=b, output_factor=g, weights=average
        )
        fits = check_mean_weight(backend, counts.mean_weight, average, self.label)
        return whole(backend, new, state, "cov_ok", fits)

    def update_inverses(
        self, state: ThreeFactorsState, damping: Scalar
    ) -> ThreeFactorsState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        given, now, split = self._split(state, damping)
        a, b, g = (
            # With the statistics as they were.
            factor.update_inverses(own, part)._replace(cov=old.cov)
            for factor, own, part, old in zip(
                self._all, now, split, state[:3], strict=True
            )
        )
        new = state._replace(
            first_factor=a, second_factor=b, output_factor=g, damping=given
        )
        return whole(backend_of(given), new, state, "derived_ok")

    def inverse_error(self, state: ThreeFactorsState, damping: Scalar) -> Array:
        """Return that of all factors; see `KroneckerProductFB.inverse_error`."""
        _, now, split = self._split(state, damping)
        backend = backend_of(state.damping)
        first, second, third = (
            inverse_residual(factor, backend, own, part)
            for factor, own, part in zip(self._all, now, split, strict=True)
        )
        # The error is linear in each eigenvalue, and so extreme where all three are.
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
        wanted = as_exponent(exp, self.label, "exp")
        return self._multiply(
            state,
            vector,
            lambda factor, own: factor.get_matpower(own, wanted),
            is_fresh=wanted == 1,
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
        """Return the inverse Cholesky factors times `vector`; see `FisherBlock`."""
        return self._multiply(
            state,
            vector,
            lambda factor, own: factor.get_cholesky_inverse(own),
            adjoint=transpose,
        )

    def full_fisher_block(self, state: ThreeFactorsState) -> Array:
        """Return ``kron(A1, A2, G)`` of the current statistics, undamped."""
        now = self._now(state)
        backend = backend_of(state.damping)
        first, second, third = (
            factor.get_cov(own) for factor, own in zip(self._all, now, strict=True)
        )
        return kron(backend, kron(backend, first, second), third)

    def spectrum(self, state: ThreeFactorsState) -> tuple[Spectrum, ...]:
        """Return the products of all eigenvalues; see `FisherBlock.spectrum`."""
        now = self._now(state)
        backend = backend_of(state.damping)
        pairs = zip(self._all, now, strict=True)
        a, b, g = (eigenbasis(backend, factor, own) for factor, own in pairs)
        inputs = a.values[:, None, None] * b.values[None, :, None]
        return (Spectrum((a, b, g), inputs * g.values),)

    def to_tensors(self, backend: Backend, vector: Params) -> tuple[Array, ...]:
        """Return the parameters with three axes; see `FisherBlock.to_tensors`."""
        sizes = (self.first_size, self.second_size, self.output_size)
        check_entries(vector, math.prod(sizes), self.label)
        return (backend.xp.reshape(params_to_vector(backend, vector), sizes),)

    @property
    def _all(self) -> tuple[FisherFactor, FisherFactor, FisherFactor]:
        return self.first_factor, self.second_factor, self.output_factor

    def _now(self, state: ThreeFactorsState) -> tuple[FactorState, ...]:
        """Return the states of the factors, each statistic over ``w^(2/3)``."""
        backend = backend_for(self.label, "state", self._own(state).damping)
        part = mean_weight(backend, state.weights) ** (2 / 3)
        return tuple(
            own._replace(cov=own.cov._replace(weight=own.cov.weight * part))
            for own in state[:3]
        )

    def _split(
        self, state: ThreeFactorsState, damping: Scalar
    ) -> tuple[Array, tuple[FactorState, ...], tuple[Array, ...]]:
        """Return a damping as given, checked, and of each factor state and damping."""
        now = self._now(state)
        backend = backend_of(state.damping)
        given = as_scalar(backend, damping, state.damping, "damping", self.label)
        means = [
            factor.trace(own) / factor.dimension
            for factor, own in zip(self._all, now, strict=True)
        ]
        rows = sum(factor.dimension for factor in self._all)
        kind, normal = self.damping_type, given
        if kind == "constant":
            # It is added to the statistics as they are, before any is divided.
            part = mean_weight(backend, state.weights) ** (2 / 3)
            normal = given * part * part
        return given, now, split_in_three(backend, kind, normal, means, rows)

    def _multiply(
        self,
        state: ThreeFactorsState,
        vector: Params,
        get: Callable[[FisherFactor, FactorState], LinearOperator],
        *,
        adjoint: bool = False,
        is_fresh: bool = False,
    ) -> Params:
        transpose = as_flag(adjoint, "transpose", self.label)
        backend = self._vector_backend(self._own(state), vector)
        xp = backend.xp
        (x,) = self.to_tensors(backend, vector)
        # The power 1 is that of the current statistics and weights.
        states = self._now(state) if is_fresh else state[:3]
        pairs = zip(self._all, states, strict=True)
        for operator in [get(factor, own) for factor, own in pairs]:
            # Each factor meets the axis in front, which then goes to the end.
            flat = xp.reshape(x, (x.shape[0], -1))
            flat = operator.matmul(flat, adjoint=transpose)
            x = xp.permute_dims(xp.reshape(flat, x.shape), (1, 2, 0))
        return self.from_tensors(backend, (xp.reshape(x, (-1,)),), vector)
