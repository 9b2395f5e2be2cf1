"""`BlockTridiagonalEstimator`: K-FAC whose inverse couples neighbouring layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kfac_core import moving_average, tree
from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.errors import StateError
from kfac_core.estimator.block_diagonal import vector_of
from kfac_core.estimator.fisher_estimator import FisherEstimator
from kfac_core.estimator.sources import EstimationMode, MatrixType
from kfac_core.estimator.tridiagonal.chain import check_chain, check_unweighted
from kfac_core.estimator.tridiagonal.cross_factors import with_batch
from kfac_core.estimator.tridiagonal.links import (
    are_definite,
    factors,
    links_of,
    not_definite,
)
from kfac_core.estimator.tridiagonal.state import (
    TridiagonalState,
    empty_state,
    shapes,
)
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.fisher_factors.base.state import check_computed
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.layer_collection.parts import with_parts
from kfac_core.linalg import kronecker_chain
from kfac_core.linalg.named import check_all_finite
from kfac_core.linearization import Linearization, NamedParams
from kfac_core.spec.quiet import Quiet
from kfac_core.state import commit
from kfac_core.typing import Array, Key, LayerDampings, Scalar

LABEL = "BlockTridiagonalEstimator"


@dataclass(frozen=True)
class BlockTridiagonalEstimator(Quiet):
    """Estimates the Fisher of a chain of layers, its inverse block-tridiagonal.

    The matrix is K-FAC's ``F_ij = kron(E[a_i a_j'], E[g_i g_j'])`` for each layer ``i``
    with itself and with the next, damped on the diagonal as the layers' blocks are.
    Blocks further apart follow from these: given the gradient of the next layer, that
    of a layer depends on no later one (Martens & Grosse, 2015, section 4.3). Beside
    `FisherEstimator`, it takes as many backward passes, three times the work for
    statistics, two eigendecompositions a layer more for inverses, and four times the
    work for a product with the inverse.

    Attributes:
        layer_collection: The losses, and fully connected layers, each used once a case,
            registered in the order in which the network uses them.
        estimation_mode: Name of the way to estimate; see `kfac_core.estimator.sources`.
        num_samples: Number of samples in the modes that draw random numbers.
        diagonal: The estimator of the layers by themselves, which draws the numbers.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> from kfac_core.reference import (
        ...     Batch, Dense, Sequential, SequentialModel, Tanh
        ... )
        >>> model = SequentialModel(Sequential((Dense(4, 3), Tanh(), Dense(3, 2))))
        >>> rng = np.random.default_rng(0)
        >>> batch = Batch(rng.normal(size=(8, 4)))
        >>> params = model.init(rng, like=batch.inputs)
        >>> collection = model.layer_collection(CategoricalLogitsNegativeLogProbLoss())
        >>> estimator = BlockTridiagonalEstimator(collection, "exact")
        >>> state = estimator.init(params)
        >>> state = estimator.update_covs(state, model.linearize(params, batch), 0.95)
        >>> state = estimator.update_inverses(state, damping=0.1)
        >>> step = estimator.multiply_inverse(state, params)
        >>> back = estimator.multiply(state, step)
        >>> bool(np.allclose(back["dense_0/bias"], params["dense_0/bias"]))
        True
    """

    layer_collection: LayerCollection
    estimation_mode: EstimationMode = "gradients"
    num_samples: int = 1
    diagonal: FisherEstimator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check that the layers are a chain.

        Raises:
            KfacError: What `FisherEstimator` raises of the same options.
            UnsupportedError: If the layers are no chain of fully connected layers.
        """
        diagonal = FisherEstimator(
            self.layer_collection, self.estimation_mode, self.num_samples
        )
        check_chain(diagonal.layers, LABEL)
        object.__setattr__(self, "num_samples", diagonal.num_samples)
        object.__setattr__(self, "diagonal", diagonal)

    def init(self, params: NamedParams) -> TridiagonalState:
        """Return the state before any data; see `FisherEstimator.init`."""
        diagonal = self.diagonal.init(params)
        backend = self.diagonal.check_state(diagonal)
        debias = self.layers[0].block.zero_debias
        return empty_state(backend, diagonal, self._sizes, zero_debias=debias)

    def update_covs(
        self,
        state: TridiagonalState,
        linearization: Linearization,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        key: Key | None = None,
        noise: Mapping[str, Array] | None = None,
    ) -> TridiagonalState:
        """Fold a batch into the statistics of all layers and pairs.

        Args:
            state: The state; left as it is.
            linearization: The model at its parameters and a batch, without masks.
            ema_decay: What the weights of earlier batches are multiplied by, in [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                for blocks without debiasing.
            key: What the array library draws from, where the mode is random.
            noise: Random numbers in place of a key, of the shapes of
                `FisherEstimator.noise_shapes` of `diagonal`.

        Returns:
            The new state; under a trace the old one with ``ok`` False, if the data of a
            layer are not finite.

        Raises:
            UnsupportedError: If rows have weights, or cases do not reach all layers.
            KfacError: What `FisherEstimator.update_covs` raises.
        """
        backend = self.check_state(state)
        like = state.damped[0][0]
        ema = moving_average.weights_of(
            backend,
            ema_decay,
            ema_weight,
            like,
            LABEL,
            zero_debias=self.layers[0].block.zero_debias,
        )
        diagonal, given = self.diagonal._folded(
            state.diagonal,
            linearization,
            (ema_decay, ema_weight),
            key,
            noise,
            self.layers,
        )
        check_unweighted(self.layers, given, LABEL)
        cross = with_batch(backend, state.cross, self.layers, given, ema)
        ok = diagonal.flag("cov_ok")
        if backend.is_traced(ok):
            cross = tree.where(backend, ok, cross, state.cross)
        return state._replace(diagonal=diagonal, cross=cross)

    def update_inverses(
        self, state: TridiagonalState, damping: LayerDampings
    ) -> TridiagonalState:
        """Compute what products need from the current statistics.

        Args:
            state: The state; left as it is.
            damping: As in `FisherEstimator.update_inverses`: it is split between the
                two factors of each layer.

        Returns:
            The new state; under a trace the old one with ``ok`` False, if the matrix
            has no inverse.

        Raises:
            NotPositiveDefiniteError: If the damped matrix has no inverse.
            KfacError: What `FisherEstimator.update_inverses` raises.
        """
        backend = self.check_state(state)
        diagonal = self.diagonal.update_inverses(state.diagonal, damping)
        damped = factors(self.layers, diagonal, 1)
        inverses = factors(self.layers, diagonal, -1)
        links = links_of(backend, self.layers, state.cross, damped, inverses)
        new = state._replace(diagonal=diagonal, damped=damped, links=links)
        ok = diagonal.flag("derived_ok")
        fine = are_definite(backend, links, ok)
        for each in fine:
            ok = ok & each

        def error() -> Exception:
            like = damped[0][0]
            return not_definite(backend, self.layers, fine, like, LABEL)

        chosen = commit(backend, ok, new, state, error)
        if not backend.is_traced(ok):
            return chosen
        blocks = {
            name: block.with_flag("derived_ok", ok & ok)
            for name, block in chosen.diagonal.blocks.items()
        }
        return chosen._replace(diagonal=chosen.diagonal._replace(blocks=blocks))

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
    def mat_type(self) -> MatrixType:
        """Name of the matrix that is estimated."""
        return self.diagonal.mat_type

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
