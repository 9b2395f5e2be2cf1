"""`BlockDiagonalMatrix`: the blocks of all layers as one matrix."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from kfac_core.arguments.powers import as_exponents
from kfac_core.arguments.sizes import as_flag
from kfac_core.backend import Backend
from kfac_core.estimator.batching import (
    Group,
    alike,
    inverted,
    together,
)
from kfac_core.estimator.given import backend_of_state, dampings_of, known_names
from kfac_core.estimator.sources import LABEL
from kfac_core.estimator.state import EstimatorState, whole
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.layer_collection.parts import whole_params, with_parts
from kfac_core.layer_collection.records import vector_of
from kfac_core.linalg.named import check_named
from kfac_core.linalg.parameters import tensors_of
from kfac_core.linearization import NamedParams
from kfac_core.linearization.checked import check_is_collection
from kfac_core.loss_functions import LossFunction
from kfac_core.spec.quiet import Quiet
from kfac_core.state import chosen_together
from kfac_core.typing import Array, LayerDampings, Params, Scalar


@dataclass(frozen=True)
class BlockDiagonalMatrix(Quiet):
    """Abstract base: the damped blocks of all layers, and products with them.

    Vectors are dictionaries of arrays, by the names of the parameters.

    Attributes:
        layer_collection: The layers and the losses.
        matpowers: Powers of the damped blocks to serve, besides those that the
            registered blocks already serve.
        compute_cholesky: Whether to serve products with the Cholesky factors.
        compute_cholesky_inverse: Whether to serve products with the inverse Cholesky
            factors.
        layers: The layers of the collection, with blocks that serve all of this.
        alike: Names of the layers, grouped by equal blocks.
        together: The layers in groups that are inverted together.

    Example:
        >>> from kfac_core.estimator import FisherEstimator
        >>> collection = LayerCollection.of({"w": (4, 3)}).register_generic("w")
        >>> collection = collection.register_softmax_cross_entropy_loss("logits")
        >>> matrix: BlockDiagonalMatrix = FisherEstimator(collection, matpowers=(-0.5,))
        >>> matrix.blocks["w"].size, matrix.blocks["w"].matpowers
        (12, (-1.0, -0.5))
    """

    layer_collection: LayerCollection
    matpowers: tuple[float, ...] = field(default=(-1.0,), kw_only=True)
    compute_cholesky: bool = field(default=False, kw_only=True)
    compute_cholesky_inverse: bool = field(default=False, kw_only=True)
    layers: tuple[LayerRegistration, ...] = field(init=False, repr=False, compare=False)
    alike: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)
    together: tuple[Group, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the collection, and register the powers.

        Raises:
            ArgumentError: If an option has the wrong form.
            RegistrationError: If a parameter has no block, or there is no loss.
        """
        collection = self.layer_collection
        check_is_collection(collection, "layer_collection", LABEL)
        for option in ("compute_cholesky", "compute_cholesky_inverse"):
            as_flag(getattr(self, option), option, LABEL)
        powers = as_exponents(self.matpowers, LABEL)
        object.__setattr__(self, "matpowers", powers)
        collection.check_registration()
        layers = tuple(
            replace(layer, block=self._serving(layer.block))
            for layer in self.layer_collection.layers
        )
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "alike", alike(layers))
        object.__setattr__(self, "together", together(layers))

    @property
    def blocks(self) -> dict[str, FisherBlock[Any]]:
        """The block of each layer, by the layer's name, with all that is served."""
        return {layer.name: layer.block for layer in self.layers}

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the collection."""
        return tuple(name for name, _ in self.layer_collection.variables)

    def init(self, params: NamedParams) -> EstimatorState:
        """Return the state before any data.

        Args:
            params: The parameters, which give library, device and dtypes.

        Returns:
            The state.

        Raises:
            ArgumentError: If a parameter is missing or unknown.
            ShapeError: If a parameter's shape is not the one in the collection.
        """
        backend = self.check_vector(params, "params")
        first = params[self.variables[0]]
        info = backend.xp.__array_namespace_info__()
        known = with_parts(self.layer_collection.parts, params)
        blocks = {
            layer.name: layer.block.init(like=known[layer.params[0]])
            for layer in self.layers
        }
        cases = backend.xp.zeros(
            (),
            dtype=info.default_dtypes()["integral"],
            device=backend.creation_device(first),
        )
        return EstimatorState(blocks, cases)

    def update_inverses(
        self,
        state: EstimatorState,
        damping: LayerDampings,
        *,
        layers: Collection[str] | None = None,
        tolerance: Scalar | None = None,
    ) -> EstimatorState:
        """Compute all that the blocks serve from the current statistics.

        Args:
            state: The state; left as it is.
            damping: Added to the matrix, approximately, times the identity; a number or
                0-d array, not negative. Or a mapping from the name of each layer that
                is updated to a damping of its own. Derivatives can be taken for this
                argument alone.
            layers: Names of the layers to update, such as those of
                `kfac_core.estimator.rolling`; None: all.
            tolerance: The largest `FisherBlock.inverse_error` of a layer whose inverses
                are kept as they are, not negative; None: no inverses are kept.

        Returns:
            The new state.

        Raises:
            ArgumentError: If a damping or the tolerance is negative or not finite, or a
                name is unknown or missing.
            NotComputedError: If there are no statistics yet.
            UnsupportedError: If there is a tolerance, and a block cannot tell its
                error.
            NotPositiveDefiniteError: If a damped block has no inverse. Under a trace
                all layers keep their old inverses, and ``ok`` is False.
        """
        backend = self.check_state(state)
        specs, blocks = self.blocks, dict(state.blocks)
        chosen = [layer.name for layer in self._chosen(layers)]
        dampings = dampings_of(damping, chosen, list(specs))
        due = {name: dampings[name] for name in chosen}
        with chosen_together(backend):
            if tolerance is not None:
                # Each layer is updated by itself: one that is kept costs nothing.
                for name, own in due.items():
                    blocks[name] = specs[name].refresh_inverses(
                        blocks[name], own, tolerance
                    )
            else:
                blocks |= inverted(self.together, specs, blocks, due, self._verb)
        new_state = state._replace(blocks=blocks)
        return whole(backend, new_state, state, "derived_ok", chosen)

    def inverse_errors(
        self, state: EstimatorState, damping: LayerDampings
    ) -> dict[str, Array]:
        """Return how wrong the stored inverses are for the current statistics.

        Args:
            state: The state.
            damping: As in `update_inverses`.

        Returns:
            The `FisherBlock.inverse_error` of each layer, 0-d, by the layer's name.

        Raises:
            KfacError: What the blocks raise.
        """
        self.check_state(state)
        blocks = self.blocks
        dampings = dampings_of(damping, list(blocks), list(blocks))
        return {
            name: block.inverse_error(state.blocks[name], dampings[name])
            for name, block in blocks.items()
        }

    def multiply_matpower(
        self, state: EstimatorState, vectors: NamedParams, exp: float
    ) -> dict[str, Array]:
        """Return the damped matrix to the power `exp`, times a vector.

        Args:
            state: The state.
            vectors: For every parameter an array of its shape.
            exp: A registered exponent, or 1; see `FisherBlock.multiply_matpower`.

        Returns:
            The product, by name.

        Raises:
            ArgumentError: If a parameter is missing or unknown.
            KfacError: What the blocks raise.
        """
        return self._by_layer("multiply_matpower", state, vectors, exp)

    def multiply(self, state: EstimatorState, vectors: NamedParams) -> dict[str, Array]:
        """Return the damped matrix times a vector; see `multiply_matpower`."""
        return self.multiply_matpower(state, vectors, 1)

    def multiply_inverse(
        self, state: EstimatorState, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return the inverse times a vector; see `multiply_matpower`."""
        return self.multiply_matpower(state, vectors, -1)

    def multiply_cholesky(
        self, state: EstimatorState, vectors: NamedParams, transpose: bool = False
    ) -> dict[str, Array]:
        """Return the Cholesky factor, or its transpose, times a vector."""
        return self._by_layer("multiply_cholesky", state, vectors, transpose=transpose)

    def multiply_cholesky_inverse(
        self, state: EstimatorState, vectors: NamedParams, transpose: bool = False
    ) -> dict[str, Array]:
        """Return the inverse Cholesky factor, or its transpose, times a vector.

        With `transpose` and standard normal vectors, the product is a sample of the
        normal distribution whose covariance is the inverse of the damped matrix.
        """
        name = "multiply_cholesky_inverse"
        return self._by_layer(name, state, vectors, transpose=transpose)

    def check_vector(self, vectors: NamedParams, argument: str) -> Backend:
        """Check that a vector has the names and shapes of the parameters.

        Args:
            vectors: The vector, by name.
            argument: Name of the vector, for the message.

        Returns:
            The backend of the vector.

        Raises:
            ArgumentError: If a parameter is missing or unknown.
            BackendError: If the arrays are of several libraries.
            DTypeError: If an array does not hold real floating-point numbers.
            ShapeError: If a parameter's shape is not the one in the collection.
        """
        shapes = dict(self.layer_collection.variables)
        return check_named(vectors, shapes, argument, LABEL)

    def _verb(
        self, spec: FisherBlock[Any] | LossFunction, name: str
    ) -> Callable[..., Any]:
        """Return a verb of the block of a layer, or of a loss, by its name."""
        verb: Callable[..., Any] = getattr(spec, name)
        return verb

    def _by_layer(
        self,
        name: str,
        state: EstimatorState,
        vectors: NamedParams,
        *args: Any,
        **options: Any,
    ) -> dict[str, Array]:
        """Return what a verb makes of each layer's part of a vector, by parameter."""
        self.check_state(state)

        def multiply(layer: LayerRegistration, vector: Params) -> Params:
            own, verb = state.blocks[layer.name], self._verb(layer.block, name)
            product: Params = verb(own, vector, *args, **options)
            return product

        return self._map_layers(vectors, multiply)

    def _map_layers(
        self,
        vectors: NamedParams,
        compute: Callable[[LayerRegistration, Params], Params],
    ) -> dict[str, Array]:
        """Return what is computed of each layer's part of a vector, by parameter."""
        backend = self.check_vector(vectors, "vectors")
        parts = self.layer_collection.parts
        known = with_parts(parts, vectors)
        found: dict[str, Array] = {}
        for layer in self.layers:
            product = compute(layer, vector_of(layer, known))
            found.update(zip(layer.params, tensors_of(product), strict=True))
        if parts:
            found = whole_params(backend, parts, found)
        return {name: found[name] for name in vectors}

    def _stacks(self, vectors: NamedParams) -> dict[str, Params]:
        """Return the vectors of each layer, for arrays with an axis over vectors."""
        parts = (replace(p, axis=p.axis + 1) for p in self.layer_collection.parts)
        known = with_parts(parts, vectors)
        return {layer.name: vector_of(layer, known) for layer in self.layers}

    def check_state(self, state: EstimatorState) -> Backend:
        """Check that a state has the layers of this estimator; blocks check the rest.

        Args:
            state: The state.

        Returns:
            The backend of the state.

        Raises:
            StateError: If it is not a state of these layers.
        """
        return backend_of_state(state, list(self.blocks))

    def _chosen(self, layers: Collection[str] | None) -> tuple[LayerRegistration, ...]:
        if layers is None:
            return self.layers
        names = known_names(layers, list(self.blocks), "layers")
        return tuple(layer for layer in self.layers if layer.name in names)

    def _serving(self, block: FisherBlock[Any]) -> FisherBlock[Any]:
        for exp in self.matpowers:
            block = block.register_matpower(exp)
        if self.compute_cholesky:
            block = block.register_cholesky()
        if self.compute_cholesky_inverse:
            block = block.register_cholesky_inverse()
        return block
