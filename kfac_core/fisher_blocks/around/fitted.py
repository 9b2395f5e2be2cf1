"""`FittedProductFB`: one Kronecker product that is fitted to case gradients."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from kfac_core import moving_average
from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.errors import UnsupportedError
from kfac_core.fisher_blocks.around.base import (
    AroundProductFB,
    check_dense_or_diagonal,
)
from kfac_core.fisher_blocks.around.state import FittedState
from kfac_core.fisher_blocks.case_gradients.gradients import CaseGradients, gradients_of
from kfac_core.fisher_blocks.case_gradients.towers import Data
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors import FactorState, FisherFactor
from kfac_core.linalg.spectrum import Spectrum
from kfac_core.moving_average import Ema, MovingAverage, added
from kfac_core.registry import backend_of
from kfac_core.spec.signature import check_kind
from kfac_core.typing import Array, Params, Scalar, Weights


class Fit(NamedTuple):
    """A product, and the statistics that it is fitted from.

    Attributes:
        a: ``A``, or its diagonal.
        g: ``G``, or its diagonal.
        inputs: The statistic of inputs.
        outputs: The statistic of gradients.
    """

    a: Array
    g: Array
    inputs: MovingAverage
    outputs: MovingAverage


@dataclass(frozen=True)
class FittedProductFB(AroundProductFB[FittedState]):
    """Abstract base of the blocks that are one product ``F = kron(A, G)``.

    All but the statistics is that of the layer's block: how it is damped, and what is
    served. Each side is a dense matrix, or a diagonal.
    """

    is_of_means: ClassVar[bool] = False
    """Whether it is fitted to the mean gradient of a batch, and not to each case's."""

    def __post_init__(self) -> None:
        """Check the forms of both sides, too."""
        super().__post_init__()
        check_dense_or_diagonal(self._product)

    def _serving(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block that computes all that this one serves."""
        return self._serving_the_same(block)

    def init(self, like: Array) -> FittedState:
        """Return the state before any data; see `FisherBlock.init`."""
        block = self._product.init(like)
        backend = backend_of(block.scale)
        # No array stands in two places of a state.
        inputs, outputs = (
            moving_average.constant(backend, own.cov.total * 1, own.cov.weight * 1)
            for own in block[:2]
        )
        return FittedState(block, inputs, outputs, self._signed())

    def init_inverses(self, state: FittedState) -> FittedState:
        """Return `state` with its statistics, and nothing computed from them yet."""
        check_kind(state, self._made_by, self.label)
        block = self._product.init_inverses(state.block)
        return state._replace(block=block, made_by=self._signed())

    def update_covs(
        self,
        state: FittedState,
        inputs: Any,
        outputs_grads: Any,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
        **options: Any,
    ) -> FittedState:
        """Fold a batch into the product.

        Arguments and errors are those of the block's own `update_covs`. The weights of
        gradients count, as in the exact diagonal of the layer.

        Returns:
            The new state.
        """
        old = self._own(state)
        # The layer's block checks the data, and knows K-FAC's own factors.
        new = self._product.update_covs(
            _with_statistics(old.block, old.inputs, old.outputs),
            inputs,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
            **options,
        )
        backend = backend_of(new.scale)
        ema = self._ema(backend, ema_decay, ema_weight, new.scale)
        data = Data(inputs, outputs_grads, weights, new.scale)
        gradients = gradients_of(
            backend, self._product, data, num_cases, is_of_means=self.is_of_means
        )
        fit = self._fitted(backend, old, new, gradients, ema)
        block = _product_of(backend, new, fit.a, fit.g)
        updated = old._replace(block=block, inputs=fit.inputs, outputs=fit.outputs)
        return self._committed(backend, updated, old, (fit.a, fit.g))

    @abstractmethod
    def _fitted(
        self,
        backend: Backend,
        old: FittedState,
        kfac: KroneckerState,
        gradients: CaseGradients,
        ema: Ema,
    ) -> Fit:
        """Return the product fitted to what it was, and to the gradients of a batch.

        Args:
            backend: Backend of all.
            old: The state before.
            kfac: The layer's block, with the statistics of `old` and those of the
                batch.
            gradients: Those of the batch.
            ema: Decay and weight of the batch.
        """

    def _of_statistics(
        self, backend: Backend, inputs: MovingAverage, outputs: MovingAverage
    ) -> tuple[Array, Array]:
        """Return ``A`` and ``G`` of the statistics alone, where these tell them.

        Raises:
            UnsupportedError: If they do not.
        """
        msg = (
            f"{self.label}: the states of a {type(self).__name__} do not merge: its"
            " product is fitted to one batch after another, and is not known from sums"
            " over shards; take a TensorNormalTrainingFB, or give one state all rows"
        )
        raise UnsupportedError(msg)

    def _union(self, states: tuple[FittedState, ...]) -> FittedState:
        firsts = [state.inputs.total for state in states]
        backend = backend_for(self.label, "state, others", *firsts)
        inputs = added(backend, [state.inputs for state in states])
        outputs = added(backend, [state.outputs for state in states])
        a, g = self._of_statistics(backend, inputs, outputs)
        block = self._product.merge(*[state.block for state in states])
        block = _product_of(backend, block, a, g)
        new = FittedState(block, inputs, outputs, self._signed())
        return self._committed(backend, new, states[0], (a, g))

    def update_inverses(self, state: FittedState, damping: Scalar) -> FittedState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        block = self._product.update_inverses(self._own(state).block, damping)
        return state._replace(block=block)

    def inverse_error(self, state: FittedState, damping: Scalar) -> Array:
        """Return how wrong the stored inverse is; see `FisherBlock.inverse_error`."""
        return self._product.inverse_error(self._own(state).block, damping)

    def multiply_matpower(
        self, state: FittedState, vector: Params, exp: float
    ) -> Params:
        """Return a power times `vector`; see `FisherBlock.multiply_matpower`."""
        return self._product.multiply_matpower(self._own(state).block, vector, exp)

    def multiply_cholesky(
        self, state: FittedState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``L`` times `vector`; see `FisherBlock.multiply_cholesky`."""
        return self._product.multiply_cholesky(
            self._own(state).block, vector, transpose
        )

    def multiply_cholesky_inverse(
        self, state: FittedState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``inv(L)`` times `vector`; see `FisherBlock.multiply_cholesky`."""
        return self._product.multiply_cholesky_inverse(
            self._own(state).block, vector, transpose
        )

    def full_fisher_block(self, state: FittedState) -> Array:
        """Return ``kron(A, G)``, dense and undamped."""
        return self._product.full_fisher_block(self._own(state).block)

    def spectrum(self, state: FittedState) -> tuple[Spectrum, ...]:
        """Return the products of both factors' eigenvalues; see `FisherBlock`."""
        return self._product.spectrum(self._own(state).block)

    def factors(
        self, state: FittedState
    ) -> dict[str, tuple[FisherFactor, FactorState]]:
        """Return the fitted factors, each with its state."""
        return self._product.factors(self._own(state).block)


def _with_statistics(
    block: KroneckerState, inputs: MovingAverage, outputs: MovingAverage
) -> KroneckerState:
    """Return a block's state with other statistics."""
    return block._replace(
        input_factor=block.input_factor._replace(cov=inputs),
        output_factor=block.output_factor._replace(cov=outputs),
    )


def _product_of(
    backend: Backend, block: KroneckerState, a: Array, g: Array
) -> KroneckerState:
    """Return the state of a block that is ``kron(A, G)`` itself."""
    weight = block.input_factor.cov.weight

    def average(value: Array) -> MovingAverage:
        return moving_average.constant(backend, value * weight, weight * 1)

    one = weight * 0 + 1
    return _with_statistics(block, average(a), average(g))._replace(
        uses=average(one), weights=average(one)
    )
