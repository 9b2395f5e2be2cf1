"""`SpectralMatrix`: functions of the block-diagonal matrix of an estimator."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kfac_core.arguments.random_keys import drawn
from kfac_core.errors import ArgumentError, StateError
from kfac_core.estimator import FisherEstimator
from kfac_core.estimator.given import dampings_of
from kfac_core.estimator.sources import LABEL
from kfac_core.estimator.state import EstimatorState
from kfac_core.layer_collection import LayerRegistration
from kfac_core.linalg.named import with_names
from kfac_core.linalg.spectrum import Function
from kfac_core.linearization import NamedParams
from kfac_core.registry import backend_of
from kfac_core.spectral.block import BlockSpectrum, SpectralBlock
from kfac_core.spectral.of_vectors import OfVectors
from kfac_core.typing import Array, Key, LayerDampings, Params, Scalar

MatrixSpectrum = dict[str, BlockSpectrum]
"""What `SpectralMatrix.decompose` returns, by the names of the layers."""


@dataclass(frozen=True)
class SpectralMatrix(OfVectors[MatrixSpectrum, NamedParams, LayerDampings]):
    """Functions of ``M = scale F + damping I``, for the matrix ``F`` of an estimator.

    ``F`` has a block for each layer; see `SpectralBlock` for what each verb computes.
    Vectors are dictionaries of arrays, by the names of the parameters. A damping is one
    number for all layers, or a mapping from the name of each layer to its own, such as
    the precision of its prior.

    Attributes:
        estimator: The estimator.
        layers: The functions of each layer's block, by the layer's name.

    Example:
        >>> import numpy as np
        >>> from kfac_core.estimator import FisherEstimator
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(2, 1, has_bias=False),)))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0))
        >>> estimator = FisherEstimator(collection, estimation_mode="exact")
        >>> weights = {"dense_0/weights": np.zeros((2, 1))}
        >>> batch = Batch(np.asarray([[2.0, 0.0], [0.0, 4.0]]))
        >>> state = estimator.init(weights)
        >>> state = estimator.update_covs(state, model.linearize(weights, batch), 0.0)
        >>> posterior = SpectralMatrix(estimator)
        >>> spectrum = posterior.decompose(state)
        >>> variances = posterior.diagonal(spectrum, weights, exp=-1, damping=1.0)
        >>> variances["dense_0/weights"].round(6)  # 1 / (2 + 1) and 1 / (8 + 1)
        array([[0.333333],
               [0.111111]])
    """

    estimator: FisherEstimator
    layers: dict[str, SpectralBlock] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the functions of each block, once.

        Raises:
            ArgumentError: If `estimator` is not an estimator.
        """
        given: object = self.estimator
        if not isinstance(given, FisherEstimator):
            msg = (
                f"SpectralMatrix: estimator is a {type(given).__name__}, expected a"
                " FisherEstimator; for a block use SpectralBlock"
            )
            raise ArgumentError(msg)
        functions = {layer.name: SpectralBlock(layer.block) for layer in given.layers}
        object.__setattr__(self, "layers", functions)

    def decompose(self, state: EstimatorState) -> MatrixSpectrum:
        """Return the eigenvalues and eigenvectors of all blocks, undamped.

        Args:
            state: State of the estimator; its statistics are used.

        Returns:
            The spectrum of each layer: nested tuples of arrays.

        Raises:
            StateError: If the state does not belong to the estimator.
            KfacError: As `FisherBlock.spectrum`.
        """
        self.estimator.check_state(state)
        return {
            name: layer.decompose(state.blocks[name])
            for name, layer in self.layers.items()
        }

    def eigenvalues(self, spectrum: MatrixSpectrum) -> dict[str, Array]:
        """Return all eigenvalues of each layer's block, by the layer's name."""
        self._check(spectrum)
        return {
            name: own.eigenvalues(spectrum[name]) for name, own in self.layers.items()
        }

    def trace(self, spectrum: MatrixSpectrum) -> Array:
        """Return the trace of ``F``, 0-d."""
        return self._sum(spectrum, lambda _, own, part: own.trace(part))

    def frobenius_norm(self, spectrum: MatrixSpectrum) -> Array:
        """Return the Frobenius norm of ``F``, 0-d."""
        square = self._sum(spectrum, lambda _, own, part: own.frobenius_norm(part) ** 2)
        return backend_of(square).xp.sqrt(square)

    def logdet(
        self,
        spectrum: MatrixSpectrum,
        damping: LayerDampings = 0.0,
        scale: Scalar = 1.0,
    ) -> Array:
        """Return the logarithm of the determinant of ``M``, 0-d.

        Args:
            spectrum: What `decompose` returned.
            damping: One number or 0-d array, not negative; or one for each layer.
            scale: A number or 0-d array, not negative.

        Returns:
            0-d; derivatives can be taken for `damping` and `scale`.

        Raises:
            KfacError: As `SpectralBlock.logdet`.
        """
        given = self._dampings(damping)
        return self._sum(
            spectrum, lambda name, own, part: own.logdet(part, given[name], scale)
        )

    def multiply_function(
        self, spectrum: MatrixSpectrum, vectors: NamedParams, function: Function
    ) -> dict[str, Array]:
        """Return ``f(F)`` times a vector; see `SpectralBlock.multiply_function`."""
        return self._by_layer(
            spectrum,
            vectors,
            lambda _, own, part, v: own.multiply_function(part, v, function),
        )

    def multiply_matpower(
        self,
        spectrum: MatrixSpectrum,
        vectors: NamedParams,
        exp: float,
        damping: LayerDampings = 0.0,
        scale: Scalar = 1.0,
    ) -> dict[str, Array]:
        """Return ``M^exp`` times a vector.

        Args:
            spectrum: What `decompose` returned.
            vectors: For every parameter an array of its shape.
            exp: The exponent, any real number.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            The product, by name.

        Raises:
            ArgumentError: If a parameter is missing or unknown.
            KfacError: As `SpectralBlock.multiply_matpower`.
        """
        given = self._dampings(damping)
        return self._by_layer(
            spectrum,
            vectors,
            lambda name, own, part, v: own.multiply_matpower(
                part, v, exp, given[name], scale
            ),
        )

    def diagonal(
        self,
        spectrum: MatrixSpectrum,
        like: NamedParams,
        exp: float = 1.0,
        damping: LayerDampings = 0.0,
        scale: Scalar = 1.0,
    ) -> dict[str, Array]:
        """Return the diagonal of ``M^exp``, in the form of the parameters `like`.

        Args:
            spectrum: What `decompose` returned.
            like: The parameters, which give shapes and dtypes.
            exp: The exponent; -1 for the marginal variances of a posterior.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            An entry for each parameter, by name.

        Raises:
            KfacError: As `multiply_matpower`.
        """
        given = self._dampings(damping)
        return self._by_layer(
            spectrum,
            like,
            lambda name, own, part, v: own.diagonal(part, v, exp, given[name], scale),
        )

    def sample(
        self,
        spectrum: MatrixSpectrum,
        key: Key,
        like: NamedParams,
        exp: float = -1.0,
        damping: LayerDampings = 0.0,
        scale: Scalar = 1.0,
    ) -> dict[str, Array]:
        """Draw from the normal distribution with mean zero and covariance ``M^exp``.

        Args:
            spectrum: What `decompose` returned.
            key: A generator of NumPy or PyTorch, or a key of JAX.
            like: The parameters, which give shapes and dtypes.
            exp: -1 for the covariance of a Laplace approximation.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            One sample, by name: what is added to the parameters.

        Raises:
            KfacError: As `multiply_matpower` and `SpectralBlock.sample`.
        """
        given = self._dampings(damping)
        backend = self.estimator.check_vector(like, "like")
        keys = drawn(backend, key, LABEL, lambda k: backend.split(k, len(self.layers)))
        by_name = dict(zip(self.layers, keys, strict=True))
        return self._by_layer(
            spectrum,
            like,
            lambda name, own, part, v: own.sample(
                part, by_name[name], v, exp, given[name], scale
            ),
        )

    @property
    def _label(self) -> str:
        return LABEL

    def _parts(self, vector: NamedParams, argument: str) -> tuple[Array, ...]:
        names = self.estimator.variables
        known = with_names(vector, names, argument, LABEL)
        return tuple(known[name] for name in names)

    def _as_vector(
        self, arrays: tuple[Array, ...], like: NamedParams
    ) -> dict[str, Array]:
        return dict(zip(self.estimator.variables, arrays, strict=True))

    def _product(
        self,
        spectrum: MatrixSpectrum,
        exp: float,
        damping: LayerDampings,
        scale: Scalar,
        function: Function | None,
    ) -> Callable[[NamedParams], dict[str, Array]]:
        self._check(spectrum)
        given = self._dampings(damping)
        products = {
            name: own._product(spectrum[name], exp, given[name], scale, function)
            for name, own in self.layers.items()
        }
        return lambda vectors: self._by_layer(
            spectrum, vectors, lambda name, own, part, v: products[name](v)
        )

    def _grams(
        self,
        spectrum: MatrixSpectrum,
        vectors: NamedParams,
        grouped: Callable[[Array], Array],
        exp: float,
        damping: LayerDampings,
        scale: Scalar,
    ) -> Array:
        given = self._dampings(damping)
        first = {name: x[0, ...] for name, x in vectors.items()}
        self.estimator.check_vector(first, "vectors")
        stacks = self.estimator._stacks(vectors)
        return self._sum(
            spectrum,
            lambda name, own, part: own._grams(
                part, stacks[name], grouped, exp, given[name], scale
            ),
        )

    def _dampings(self, damping: LayerDampings) -> dict[str, Scalar]:
        names = list(self.layers)
        return dampings_of(damping, names, names)

    def _check(self, spectrum: MatrixSpectrum) -> None:
        given: object = spectrum
        if not isinstance(given, dict) or given.keys() != self.layers.keys():
            msg = (
                f"{LABEL}: spectrum is not what decompose returned for the layers"
                f" {list(self.layers)}"
            )
            raise StateError(msg)

    def _sum(
        self,
        spectrum: MatrixSpectrum,
        of_layer: Callable[[str, SpectralBlock, BlockSpectrum], Array],
    ) -> Array:
        self._check(spectrum)
        first, *others = [
            of_layer(name, own, spectrum[name]) for name, own in self.layers.items()
        ]
        return sum(others, first)

    def _by_layer(
        self,
        spectrum: MatrixSpectrum,
        vectors: NamedParams,
        compute: Callable[[str, SpectralBlock, BlockSpectrum, Params], Params],
    ) -> dict[str, Array]:
        self._check(spectrum)

        def of_layer(layer: LayerRegistration, vector: Params) -> Params:
            own, part = self.layers[layer.name], spectrum[layer.name]
            return compute(layer.name, own, part, vector)

        return self.estimator._map_layers(vectors, of_layer)
