"""`KroneckerStatisticsFB`: the statistics of two factors of the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kfac_core import moving_average
from kfac_core.arguments.arrays import (
    as_sources,
    as_towers,
    backend_for,
    check_has_cases,
    check_paired,
)
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors import FisherFactor
from kfac_core.rows.counts import Counts, check_mean_weight, counted, mean_weight
from kfac_core.rows.weights import both_known, sides, weights_for
from kfac_core.spec.signature import check_kind
from kfac_core.state import kept
from kfac_core.typing import Array, RowWeights, Scalar, Sources, Towers, Weights


@dataclass(frozen=True, kw_only=True)
class KroneckerStatisticsFB(FisherBlock[KroneckerState]):
    """Abstract base of the blocks that know two factors, of inputs and gradients.

    Attributes:
        input_factor: The factor ``A``, made from the block's fields.
        output_factor: The factor ``G``, made from the block's fields.
    """

    inputs_name: ClassVar[str] = "inputs"
    """What the inputs are called in messages."""

    data_names: ClassVar[str] = "state, inputs, outputs_grads"
    """The arguments of `update_covs` that hold arrays, for messages."""

    takes_any_length: ClassVar[bool] = False
    """Whether the number of cases may be unknown: None in the shapes of data."""

    input_factor: FisherFactor = field(init=False, repr=False, compare=False)
    output_factor: FisherFactor = field(init=False, repr=False, compare=False)
    _sizes: tuple[int, int] = field(init=False, repr=False, compare=False)

    def init(self, like: Array) -> KroneckerState:
        """Return the state before any data; see `FisherBlock.init`."""
        backend = backend_for(self.label, "like", like)
        output = self.output_factor.init(like)
        zero = backend.xp.zeros_like(output.cov.weight)
        inputs = self.input_factor.init(like)
        uses = self._init_uses(zero)
        weights = moving_average.of_number(output.cov.weight)
        return KroneckerState(
            inputs,
            output,
            uses,
            weights,
            scale=kept(zero + 1),
            mean_weight=kept(zero + 1),
            damping=zero,
            made_by=self._signed(),
        )

    def init_inverses(self, state: KroneckerState) -> KroneckerState:
        """Return `state` with its statistics, and nothing computed from them yet."""
        check_kind(state, self._made_by, self.label)
        return state._replace(
            input_factor=self.input_factor.init_inverses(state.input_factor),
            output_factor=self.output_factor.init_inverses(state.output_factor),
            damping=kept(state.weights.weight * 0),
            made_by=self._signed(),
        )

    def _checked(self, state: KroneckerState) -> Backend:
        """Return the backend of a state, whose form is checked with its factors'."""
        a, g = self._own(state).input_factor, state.output_factor
        self.input_factor._backend(a)
        return self.output_factor._backend(g)

    def _scale(self, backend: Backend, state: KroneckerState) -> tuple[Array, Array]:
        """Return the current ``c`` and mean weight."""
        uses = moving_average.value(backend, state.uses, self.label)
        return uses, mean_weight(backend, state.weights)

    def _balanced(
        self, backend: Backend, state: KroneckerState, mean: Array
    ) -> KroneckerState:
        """Return the state with both statistics over the root of the mean weight.

        Both have the mean weight as a factor, and the block has it once: so no weight
        takes a factor, its damping or a product on the way out of the range where the
        block itself is within it. A factor that is a mean by weight is left as it is:
        it has to be multiplied by the root, which its users do.
        """
        if backend.known_number(mean) == 1:
            return state
        root = backend.xp.sqrt(mean)
        first, second = (
            own
            if factor.form.is_mean_by_weight
            else own._replace(cov=own.cov._replace(weight=own.cov.weight * root))
            for factor, own in zip(self._sides, state[:2], strict=True)
        )
        return state._replace(input_factor=first, output_factor=second)

    @property
    def _sides(self) -> tuple[FisherFactor, FisherFactor]:
        return self.input_factor, self.output_factor

    @property
    def _means_by_weight(self) -> int:
        """The number of factors that are means by weight."""
        first, second = self.input_factor, self.output_factor
        return first.form.is_mean_by_weight + second.form.is_mean_by_weight

    def _update_factors(
        self,
        state: KroneckerState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
        **of_inputs: Any,
    ) -> KroneckerState:
        """Fold data of the same cases; `of_inputs` go into the input factor."""
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        given = [self._own(state).scale, *towers]
        for source in sources:
            given.extend(source)
        backend = backend_for(self.label, self.data_names, *given)
        self._check_pairs(towers, sources)
        uses = self._mean_uses(towers)
        known = self._known_cases(backend, towers, state.scale)
        if weights is None and num_cases is None and known is None:
            counts = Counts({}, {}, 1.0, uses)
        else:
            shapes = [self._weighted_shape(x) for x in towers]
            rows = self._row_weights(backend, shapes, weights, state.scale)
            rows = rows if known is None else both_known(rows, known)
            counts = counted(
                backend, rows, shapes, uses, num_cases, state.scale, self.label
            )
        data, ema = (towers, sources), (ema_decay, ema_weight)
        return self._fold(backend, state, data, counts, *ema, **of_inputs)

    def _fold(
        self,
        backend: Backend,
        state: KroneckerState,
        data: tuple[Any, Any],
        counts: Counts,
        ema_decay: Scalar,
        ema_weight: Scalar | None,
        **of_inputs: Any,
    ) -> KroneckerState:
        """Fold the data and the counts of both factors: all of them, or none."""
        a, g = state.input_factor, state.output_factor
        ema = self._ema(backend, ema_decay, ema_weight, state.scale)
        a = self.input_factor.update_cov(
            a, data[0], ema, **counts.of_inputs, **of_inputs
        )
        g = self.output_factor.update_cov(g, data[1], ema, **counts.of_outputs)
        averages, samples = [state.weights], [counts.mean_weight]
        if self.is_repeated:
            averages, samples = [*averages, state.uses], [*samples, counts.uses]
        folded = moving_average.fold_numbers(backend, averages, samples, ema)
        uses = folded[1] if self.is_repeated else state.uses
        new = KroneckerState(a, g, uses, folded[0], *state[4:])
        fits = check_mean_weight(backend, counts.mean_weight, folded[0], self.label)
        return whole(backend, new, state, "cov_ok", fits)

    def _row_weights(
        self,
        backend: Backend,
        shapes: Sequence[tuple[int, ...]],
        weights: Weights | None,
        like: Array,
    ) -> RowWeights:
        """Return the weights of inputs and of gradients, checked; None: one each."""
        if weights is None:
            return RowWeights(None, None)
        inputs, gradients = sides(weights)
        known = weights_for(backend, inputs, shapes, like, self.label)
        if gradients is inputs:
            return RowWeights(known, known)
        others = weights_for(backend, gradients, shapes, like, self.label)
        return RowWeights(known, others)

    def _known_cases(
        self, backend: Backend, towers: tuple[Array, ...], like: Array
    ) -> tuple[Array, ...] | None:
        """Return ``[batch]`` of ones, and zeros for the cases that do not count.

        None where the inputs do not say that a case does not count.
        """
        return None

    def _weighted_shape(self, inputs: Array) -> tuple[int, ...]:
        """Return the shape of what can have weights: ``(batch, ..positions..)``."""
        return (inputs.shape[0],)

    def _check_pairs(
        self, towers: tuple[Array, ...], sources: tuple[tuple[Array, ...], ...]
    ) -> None:
        """Check the rows of inputs and gradients against each other.

        Without gradients, the inputs have nobody but themselves to be checked against.
        """
        for x in towers if not sources else ():
            check_has_cases(x, self.inputs_name, self.label)
            self._check_inputs(x)
        for source in sources:
            check_paired(
                towers,
                source,
                self.label,
                self.inputs_name,
                any_length=self.takes_any_length,
            )
            for x, g in zip(towers, source, strict=True):
                self._check_pair(x, g)

    def _check_inputs(self, inputs: Array) -> None:
        """Check what a tower's inputs must have, besides an axis of cases."""

    def _check_pair(self, inputs: Array, gradients: Array) -> None:
        """Check what a tower's inputs and gradients must share, besides their rows."""

    def _mean_uses(self, inputs: tuple[Array, ...]) -> float:
        """Return the mean number of uses of a case."""
        return 1.0

    def _set_factors(self, inputs: FisherFactor, outputs: FisherFactor) -> None:
        object.__setattr__(self, "input_factor", inputs)
        object.__setattr__(self, "output_factor", outputs)
        # Every product compares them with the shape of its vector.
        object.__setattr__(self, "_sizes", (inputs.dimension, outputs.dimension))
