"""`EmbeddingRowsFB`: the block of an embedding, or of some of its rows."""

from dataclasses import dataclass, field, replace
from typing import Self

from kfac_core import tree
from kfac_core.arguments.arrays import (
    backend_for,
    check_indices,
    check_not_empty,
    check_shape,
)
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors import EmbeddingInputKroneckerFactor, FactorState
from kfac_core.typing import Array


@dataclass(frozen=True)
class EmbeddingRowsFB(KroneckerProductFB):
    """Abstract base of the blocks of embeddings: their input factor is diagonal."""

    input_factor: EmbeddingInputKroneckerFactor = field(
        init=False, repr=False, compare=False
    )

    def restricted(
        self, state: KroneckerState, ids: Array
    ) -> tuple[Self, KroneckerState]:
        """Return the block of the rows of some ids, and its state.

        The damped block is block-diagonal over ids. So the restricted block times some
        rows of a vector gives the same rows of the full product, whatever the power. If
        a gradient is zero except in the rows of a batch's ids, the cost of a product
        grows with the number of these ids, and not with the vocabulary.

        Args:
            state: The state; left as it is.
            ids: Integers ``[k]`` in ``[0, vocab_size)``.

        Returns:
            A block with the vocabulary ``k``, and its state. They are for products
            alone, since the statistics are no longer those of a whole layer.

        Raises:
            ShapeError: If `ids` has another rank.
            DTypeError: If the ids are not integers.
            ArgumentError: If an id is known, and out of range.

        Example:
            >>> import numpy as np
            >>> from kfac_core.fisher_blocks import EmbeddingKFACFB
            >>> block = EmbeddingKFACFB(vocab_size=1000, output_size=1)
            >>> ids, g = np.asarray([7, 7, 9]), np.asarray([[1.0], [1.0], [2.0]])
            >>> state = block.update_covs(block.init(like=g), ids, g, ema_decay=0.0)
            >>> state = block.update_inverses(state, damping=0.1)
            >>> rows, of_rows = block.restricted(state, np.asarray([7, 9]))
            >>> rows.multiply_inverse(of_rows, np.asarray([[1.0], [1.0]])).round(3)
            array([[0.092],
                   [0.182]])
        """
        backend = backend_for(self.label, "state, ids", self._own(state).scale, ids)
        check_shape(ids, ("ids",), "ids", self.label)
        check_not_empty((ids,), "ids", self.label)
        size = self.input_factor.vocab_size
        check_indices(backend, ids, size, "ids", self.label)
        block = replace(self, vocab_size=ids.shape[0])  # type: ignore[call-arg]
        inputs = _rows_of(backend, state.input_factor, ids)
        inputs = inputs._replace(made_by=block.input_factor.signature)
        return block, state._replace(input_factor=inputs)

    def _known_cases(
        self, backend: Backend, towers: tuple[Array, ...], like: Array
    ) -> tuple[Array, ...] | None:
        """Return zeros for the cases without an id that counts."""
        return self.input_factor.known_cases(backend, towers, like.dtype)


def _rows_of(backend: Backend, state: FactorState, ids: Array) -> FactorState:
    """Return the state of a diagonal factor for some of its entries."""

    def take(stored: Array) -> Array:
        return backend.xp.take(stored, ids, axis=0)

    cov, derived = state.cov, state.derived
    return state._replace(
        cov=cov._replace(total=take(cov.total)),
        derived=derived._replace(
            matpowers=tree.map(take, derived.matpowers),
            choleskys=tree.map(take, derived.choleskys),
            cholesky_inverses=tree.map(take, derived.cholesky_inverses),
            # The eigenvectors of a diagonal matrix are kept as a vector of ones.
            eigendecompositions=tree.map(take, derived.eigendecompositions),
        ),
    )
