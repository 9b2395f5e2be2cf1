"""`ForwardOnlyFB`: FOOF, the curvature of a layer from its inputs alone."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from kfac_core.arguments.arrays import NO_SOURCES
from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks.around.base import AroundProductFB
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.fisher_blocks.embedding.kronecker import EmbeddingKFACFB
from kfac_core.fisher_blocks.fully_connected import FullyConnectedKFACBasicFB
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.shared.embedding import EmbeddingKFACMultiIndepFB
from kfac_core.fisher_blocks.shared.fully_connected import FullyConnectedMultiIndepFB
from kfac_core.fisher_factors import FactorState, FisherFactor
from kfac_core.fisher_factors.identity import IdentityFactor
from kfac_core.linalg.spectrum import Spectrum
from kfac_core.typing import Array, Params, Scalar, Weights

LAYERS = (
    FullyConnectedKFACBasicFB,
    FullyConnectedMultiIndepFB,
    EmbeddingKFACFB,
    EmbeddingKFACMultiIndepFB,
    ConvKFCBasicFB,
)
"""The blocks of which an input factor is all that is needed; some have subclasses."""


@dataclass(frozen=True)
class ForwardOnlyFB(AroundProductFB[KroneckerState]):
    """FOOF: ``F = c kron(A, I)``, which needs no gradients of outputs.

    It is the Gauss-Newton matrix of ``sum |W'a - y|^2 / 2`` over the positions of a
    case, at fixed inputs ``a``: a step of ``F^-1`` solves a least squares problem for
    the outputs of each layer (Benzing, 2022, section 3). It equals K-FAC where the
    output gradients have the identity as their second moment, as those of a squared
    error have at the last layer; elsewhere the matrix is no Fisher, and does not change
    with the scale of the loss.

    The damping is added to the matrix itself, which costs nothing: ``c kron(A, I) +
    damping I = c kron(A + (damping / c) I, I)``.

    Attributes:
        block: The block of the layer, such as a `FullyConnectedKFACBasicFB`: it says
            what the inputs are, and in which form ``A`` is kept. Its averaging and
            precision hold for both; how it damps, what it serves, and how it keeps
            ``G`` does not matter here.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = ForwardOnlyFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x = np.asarray([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
        >>> y = x @ np.asarray([[3.0], [-1.0]])
        >>> state = block.update_covs(block.init(like=x), x, ema_decay=0.95)
        >>> state = block.update_inverses(state, damping=0.0)
        >>> gradient = x.T @ (x @ np.zeros((2, 1)) - y) / 3  # at weights of zero
        >>> -block.multiply_inverse(state, gradient).round(6)  # least squares
        array([[ 3.],
               [-1.]])
    """

    sees_gradients: ClassVar[bool] = False
    takes_gradients: ClassVar[bool] = False

    def _bare(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block with its own damping, which does not matter, as it is."""
        given: object = block
        if not isinstance(given, LAYERS):
            msg = (
                f"{self.label}: block is a {type(block).__name__}, expected one of"
                f" {', '.join(each.__name__ for each in LAYERS)}, or a"
                " ConvKFCBasicMultiIndepFB"
            )
            raise ArgumentError(msg)
        return replace(block, damping_type="off", normalize_damping_power=1.0)

    def _serving(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block with the identity as its second factor."""
        made = self._serving_the_same(block)
        size, options = made.output_factor.dimension, made._factor_options("output")
        made._set_factors(made.input_factor, IdentityFactor(size, **options))
        object.__setattr__(made, "_made_by", self._made_by)  # states of another kind
        return made

    def init(self, like: Array) -> KroneckerState:
        """Return the state before any data; see `FisherBlock.init`."""
        return self._product.init(like)

    def init_inverses(self, state: KroneckerState) -> KroneckerState:
        """Return `state` with its statistics, and nothing computed from them yet."""
        return self._product.init_inverses(state)

    def update_covs(
        self,
        state: KroneckerState,
        inputs: Any,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
        **options: Any,
    ) -> KroneckerState:
        """Fold the inputs of a batch into ``A``.

        Arguments and errors are those of the block's own `update_covs`, without the
        gradients.

        Returns:
            The new state.
        """
        return self._product.update_covs(
            state,
            inputs,
            NO_SOURCES,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
            **options,
        )

    def _union(self, states: tuple[KroneckerState, ...]) -> KroneckerState:
        union: KroneckerState = self._product._union(states)
        return union

    def update_inverses(self, state: KroneckerState, damping: Scalar) -> KroneckerState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        return self._product.update_inverses(state, damping)

    def inverse_error(self, state: KroneckerState, damping: Scalar) -> Array:
        """Return that of ``A``; see `FisherBlock.inverse_error`."""
        return self._product.inverse_error(state, damping)

    def multiply_matpower(
        self, state: KroneckerState, vector: Params, exp: float
    ) -> Params:
        """Return ``c^p (A + a I)^p V``; see `FisherBlock`."""
        return self._product.multiply_matpower(state, vector, exp)

    def multiply_cholesky(
        self, state: KroneckerState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``sqrt(c) L_A V``, or with ``L_A'``; see `FisherBlock`."""
        return self._product.multiply_cholesky(state, vector, transpose)

    def multiply_cholesky_inverse(
        self, state: KroneckerState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``inv(L_A) V / sqrt(c)``, or with the transpose."""
        return self._product.multiply_cholesky_inverse(state, vector, transpose)

    def full_fisher_block(self, state: KroneckerState) -> Array:
        """Return ``c kron(A, I)`` of the current statistics, dense and undamped."""
        return self._product.full_fisher_block(state)

    def spectrum(self, state: KroneckerState) -> tuple[Spectrum, ...]:
        """Return the eigenvalues of ``c A``, each once for every output."""
        return self._product.spectrum(state)

    def factors(
        self, state: KroneckerState
    ) -> dict[str, tuple[FisherFactor, FactorState]]:
        """Return both factors, each with its state; the second is the identity."""
        return self._product.factors(state)
