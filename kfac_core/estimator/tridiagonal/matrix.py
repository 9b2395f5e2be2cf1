"""What reads the state of a block-tridiagonal estimator."""

from collections.abc import Sequence
from typing import Any

from kfac_core import tree
from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.errors import StateError
from kfac_core.estimator.fisher_estimator import FisherEstimator
from kfac_core.estimator.tridiagonal.links import factors
from kfac_core.estimator.tridiagonal.state import TridiagonalState, shapes
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.fisher_factors.base.state import check_computed
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.layer_collection.parts import with_parts
from kfac_core.layer_collection.records import vector_of
from kfac_core.linalg import kronecker_chain
from kfac_core.linalg.named import check_all_finite
from kfac_core.linearization import NamedParams
from kfac_core.typing import Array

LABEL = "BlockTridiagonalEstimator"


class BlockTridiagonalMatrix:
    """A damped matrix whose inverse is block-tridiagonal, as a state holds it.

    Attributes:
        layer_collection: The losses and the chain of layers.
        diagonal: The estimator of the layers by themselves.
    """

    layer_collection: LayerCollection
    diagonal: FisherEstimator

    def multiply_inverse(
        self, state: TridiagonalState, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return the inverse of the damped matrix, times a vector.

        Args:
            state: The state.
            vectors: For every parameter an array of its shape.

        Returns:
            The product, by name.

        Raises:
            KfacError: What `FisherEstimator.multiply_inverse` raises.
        """
        backend, matrices = self._matrices(state, vectors)
        links = tree.cast(backend, state.links, matrices[-1].dtype)
        a, g = factors(self.layers[-1:], state.diagonal, -1)[0]
        a, g = tree.cast(backend, (a, g), matrices[-1].dtype)

        def last_inverse(x: Array) -> Array:
            return backend.matmul(backend.matmul(a, x), g)

        products = kronecker_chain.multiply_inverse(
            backend, links, last_inverse, matrices
        )
        return self._named(backend, products, vectors)

    def multiply(
        self, state: TridiagonalState, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return the damped matrix of the last `update_inverses`, times a vector.

        Arguments, product and errors are those of `multiply_inverse`.
        """
        backend, matrices = self._matrices(state, vectors)
        links, damped = tree.cast(
            backend, (state.links, state.damped), matrices[-1].dtype
        )
        products = kronecker_chain.multiply(backend, links, damped, matrices)
        return self._named(backend, products, vectors)

    def full_fisher(self, state: TridiagonalState) -> Array:
        """Return the damped matrix of the last `update_inverses`, dense.

        Args:
            state: The state.

        Returns:
            ``[n, n]``, over the entries of each layer's matrix ``[inputs, outputs]``,
            the row of the bias last, row-major, layer after layer.

        Raises:
            NotComputedError: If `update_inverses` has not run yet.
        """
        backend = self._computed(state)
        return kronecker_chain.dense(backend, state.links, state.damped)

    def check_state(self, state: TridiagonalState) -> Backend:
        """Check that a state is one of these layers; blocks check the rest.

        Args:
            state: The state.

        Returns:
            The backend of the state.

        Raises:
            StateError: If it is not a state of these layers.
        """
        known: object = state
        if not isinstance(known, TridiagonalState):
            msg = (
                f"{LABEL}: state is a {type(known).__name__}, expected a"
                " TridiagonalState: use the state that init returned"
            )
            raise StateError(msg)
        backend = self.diagonal.check_state(state.diagonal)
        arrays = tree.leaves(state[1:])
        found = [tuple(getattr(x, "shape", (None,))) for x in arrays]
        if found != (expected := shapes(self._sizes)):
            msg = (
                f"{LABEL}: the state has arrays of the shapes {found} for pairs of"
                f" layers, expected {expected}; it was made by another estimator: use"
                " init of this one"
            )
            raise StateError(msg)
        return backend

    def check_vector(self, vectors: NamedParams, argument: str) -> Backend:
        """Check a vector; see `FisherEstimator.check_vector`."""
        return self.diagonal.check_vector(vectors, argument)

    @property
    def layers(self) -> tuple[LayerRegistration, ...]:
        """The layers, each with its block."""
        return self.diagonal.layers

    @property
    def blocks(self) -> dict[str, FisherBlock[Any]]:
        """The block of each layer, by its name."""
        return self.diagonal.blocks

    @property
    def _sizes(self) -> list[tuple[int, int]]:
        """Numbers of rows of each layer's two factors."""
        blocks = self.diagonal.blocks.values()
        return [tuple(f.dimension for f in block._sides) for block in blocks]  # type: ignore[attr-defined]

    def _computed(self, state: TridiagonalState) -> Backend:
        backend = self.check_state(state)
        last = self.layers[-1]
        known = state.diagonal.blocks[last.name].input_factor
        check_computed(backend, known, last.name)
        return backend

    def _matrices(
        self, state: TridiagonalState, vectors: NamedParams
    ) -> tuple[Backend, list[Array]]:
        """Return a vector as a matrix for each layer, of the widest dtype."""
        backend = self._computed(state)
        self.diagonal.check_vector(vectors, "vectors")
        backend_for(LABEL, "state, vectors", state.cases, *vectors.values())
        check_all_finite(backend, vectors, "vectors", LABEL)
        known = with_parts(self.layer_collection.parts, vectors)
        matrices = [
            layer.block.to_tensors(backend, vector_of(layer, known))[0]
            for layer in self.layers
        ]
        dtype = backend.xp.result_type(state.damped[0][0], *matrices)
        return backend, [backend.xp.astype(x, dtype, copy=False) for x in matrices]

    def _named(
        self, backend: Backend, products: Sequence[Array], vectors: NamedParams
    ) -> dict[str, Array]:
        """Return a product by the names of the parameters, in their dtypes."""
        each = iter(products)
        return self.diagonal._map_layers(
            vectors,
            lambda layer, like: layer.block.from_tensors(backend, (next(each),), like),
        )
