"""`SingleFactorFB`: a block whose Fisher is one factor's matrix."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from kfac_core.arguments.sizes import as_flag
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_factors import FactorState, FisherFactor
from kfac_core.fisher_factors.eigenbasis import eigenbasis
from kfac_core.linalg.operators import LinearOperator
from kfac_core.linalg.parameters import (
    check_entries,
    params_to_vector,
    vector_to_params,
)
from kfac_core.linalg.spectrum import Spectrum
from kfac_core.moving_average import MovingAverage
from kfac_core.registry import backend_of
from kfac_core.spec.signature import UNSIGNED, Signature, check_kind
from kfac_core.state import kept
from kfac_core.state_classes import state_class
from kfac_core.typing import Array, Params, Scalar


@state_class
class SingleFactorState(NamedTuple):
    """State of a `SingleFactorFB`.

    Attributes:
        factor: State of its factor.
        uses: Moving average of the number of locations of a case.
        made_by: What kind of block the state belongs to, and what it serves.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedDiagonalFB
        >>> block = FullyConnectedDiagonalFB(1, 1)
        >>> x, g = np.asarray([[1.0], [3.0]]), np.asarray([[1.0], [1.0]])
        >>> state = block.update_covs(block.init(x), x, g, ema_decay=0.0)
        >>> state.factor.cov.total, float(state.uses.total)
        (array([[5.]]), 1.0)
    """

    factor: FactorState
    uses: MovingAverage
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.factor.ok

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for the factor."""
        flag: Array = getattr(self.factor, name)
        return flag

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of `FactorState` set."""
        flag: dict[str, Any] = {name: kept(ok)}
        return self._replace(factor=self.factor._replace(**flag))


@dataclass(frozen=True, kw_only=True)
class SingleFactorFB(FisherBlock[SingleFactorState]):
    """Abstract base of the full and the diagonal blocks, which add the damping itself.

    Attributes:
        factor: The factor, made from the block's fields.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedDiagonalFB
        >>> block = FullyConnectedDiagonalFB(1, 1)
        >>> type(block.factor).__name__
        'FullyConnectedDiagonalFactor'
        >>> x, g = np.asarray([[1.0], [3.0]]), np.asarray([[1.0], [1.0]])
        >>> state = block.update_covs(block.init(x), x, g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=2.0)
        >>> block.multiply(state, np.asarray([[1.0]]))  # (1 + 9) / 2 + 2
        array([[7.]])
    """

    factor: FisherFactor = field(init=False, repr=False, compare=False)

    def init(self, like: Array) -> SingleFactorState:
        """Return the state before any data; see `FisherBlock.init`."""
        factor = self.factor.init(like)
        uses = self._init_uses(factor.cov.weight)
        return SingleFactorState(factor, uses, self._signed())

    def init_inverses(self, state: SingleFactorState) -> SingleFactorState:
        """Return `state` with its statistics, and nothing computed from them yet."""
        check_kind(state, self._made_by, self.label)
        factor = self.factor.init_inverses(state.factor)
        return state._replace(factor=factor, made_by=self._signed())

    def update_inverses(
        self, state: SingleFactorState, damping: Scalar
    ) -> SingleFactorState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        factor = self.factor.update_inverses(self._own(state).factor, damping)
        return state._replace(factor=factor)

    def inverse_error(self, state: SingleFactorState, damping: Scalar) -> Array:
        """Return the factor's error; see `FisherBlock.inverse_error`."""
        return self.factor.inverse_error(self._own(state).factor, damping)

    def multiply_matpower(
        self, state: SingleFactorState, vector: Params, exp: float
    ) -> Params:
        """Return a power times `vector`; see `FisherBlock.multiply_matpower`."""
        operator = self.factor.get_matpower(self._own(state).factor, exp)
        return self._multiply(state, operator, vector, transpose=False)

    def multiply_cholesky(
        self, state: SingleFactorState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``L`` times `vector`; see `FisherBlock.multiply_cholesky`.

        A diagonal block's ``L`` is its power 1/2.
        """
        operator = self.factor.get_cholesky(self._own(state).factor)
        return self._multiply(state, operator, vector, transpose=transpose)

    def multiply_cholesky_inverse(
        self, state: SingleFactorState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``inv(L)`` times `vector`; see `FisherBlock.multiply_cholesky`."""
        operator = self.factor.get_cholesky_inverse(self._own(state).factor)
        return self._multiply(state, operator, vector, transpose=transpose)

    def full_fisher_block(self, state: SingleFactorState) -> Array:
        """Return the factor's matrix, undamped and dense."""
        dense = self.factor.get_cov(self._own(state).factor)
        return self._laid_out(backend_of(dense), dense)

    def spectrum(self, state: SingleFactorState) -> tuple[Spectrum, ...]:
        """Return that of the factor; see `FisherBlock.spectrum`."""
        own = self._own(state).factor
        basis = eigenbasis(backend_of(own.ok), self.factor, own)
        return (Spectrum((basis,), basis.values),)

    def to_tensors(self, backend: Backend, vector: Params) -> tuple[Array, ...]:
        """Return all entries as one vector; see `FisherBlock.to_tensors`."""
        check_entries(vector, self.factor.dimension, self.label, self.weight_layout)
        return (params_to_vector(backend, vector, self.weight_layout),)

    def from_tensors(
        self, backend: Backend, tensors: tuple[Array, ...], like: Params
    ) -> Params:
        """Return a vector in the form of `like`; see `FisherBlock.from_tensors`."""
        (tensor,) = tensors
        params = vector_to_params(backend, tensor, like, self.weight_layout)
        return self._in_dtypes_of(backend, params, like)

    def _multiply(
        self,
        state: SingleFactorState,
        operator: LinearOperator,
        vector: Params,
        *,
        transpose: bool,
    ) -> Params:
        adjoint = as_flag(transpose, "transpose", self.label)
        backend = self._vector_backend(state, vector)
        (flat,) = self.to_tensors(backend, vector)
        product = operator.matmul(flat[:, None], adjoint=adjoint)[:, 0]
        return self.from_tensors(backend, (product,), vector)

    def _set_factor(self, factor: FisherFactor) -> None:
        object.__setattr__(self, "factor", factor)
