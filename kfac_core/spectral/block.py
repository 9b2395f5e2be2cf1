"""`SpectralBlock`: functions of one block's matrix."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kfac_core import tree
from kfac_core.arguments.arrays import backend_for, statistics_dtype
from kfac_core.arguments.powers import as_exponent
from kfac_core.arguments.random_keys import drawn
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, StateError
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.linalg import spectrum as spectral
from kfac_core.linalg.parameters import tensors_of
from kfac_core.linalg.spectrum import Function, Spectrum, with_zeros
from kfac_core.spectral.damped import damped_logarithm, damped_power
from kfac_core.spectral.of_vectors import OfVectors
from kfac_core.state import check_finite
from kfac_core.typing import Array, Key, Params, Scalar

BlockSpectrum = tuple[Spectrum, ...]
"""What `SpectralBlock.decompose` returns: a spectrum for each uncorrelated part."""


@dataclass(frozen=True)
class SpectralBlock(OfVectors[BlockSpectrum, Params, Scalar]):
    """Functions of ``M = scale F + damping I``, for the matrix ``F`` of one block.

    `decompose` computes the eigenbases of the factors; all else is products with these,
    and no matrix of the size of ``F`` is made. The damping is added to the matrix
    itself, whatever the ``damping_type`` of the block. With the number of cases as
    `scale` and the precision of a normal prior as `damping`, ``M`` is the precision of
    a Laplace approximation of the posterior. Derivatives can be taken for `damping` and
    `scale`.

    Attributes:
        block: The block.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> block = kc.blocks.FullyConnectedKFACBasicFB(2, 1)
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 4.0]]), np.ones((2, 1))
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> curvature = SpectralBlock(block)
        >>> spectrum = curvature.decompose(state)
        >>> float(curvature.trace(spectrum))
        10.0
        >>> round(float(np.exp(curvature.logdet(spectrum, damping=1.0))), 9)  # 3 * 9
        27.0
    """

    block: FisherBlock[Any]

    def __post_init__(self) -> None:
        """Check the block.

        Raises:
            ArgumentError: If it is not a block.
        """
        given: object = self.block
        if not isinstance(given, FisherBlock):
            msg = (
                f"SpectralBlock: block is a {type(given).__name__}, expected a"
                " FisherBlock; for a FisherEstimator use SpectralMatrix"
            )
            raise ArgumentError(msg)

    def decompose(self, state: Any) -> BlockSpectrum:
        """Return the eigenvalues and eigenvectors of the block, undamped.

        Args:
            state: State of the block; its statistics are used.

        Returns:
            The spectrum: nested tuples of arrays, as all states are.

        Raises:
            KfacError: As `FisherBlock.spectrum`.
        """
        return self.block.spectrum(state)

    def eigenvalues(self, spectrum: BlockSpectrum) -> Array:
        """Return all eigenvalues of ``F``, ``[n]``, in any order.

        Args:
            spectrum: What `decompose` returned.
        """
        backend = self._backend(spectrum)
        xp = backend.xp
        parts = [
            with_zeros(backend, xp.reshape(x.eigenvalues, (-1,)), x.num_missing)
            for x in spectrum
        ]
        found: Array = xp.concat(parts) if len(parts) > 1 else parts[0]
        return found

    def trace(self, spectrum: BlockSpectrum) -> Array:
        """Return the trace of ``F``, 0-d."""
        return self._total(spectrum, lambda values: values)

    def frobenius_norm(self, spectrum: BlockSpectrum) -> Array:
        """Return the Frobenius norm of ``F``, 0-d."""
        backend = self._backend(spectrum)
        return backend.xp.sqrt(self._total(spectrum, lambda values: values * values))

    def logdet(
        self, spectrum: BlockSpectrum, damping: Scalar = 0.0, scale: Scalar = 1.0
    ) -> Array:
        """Return the logarithm of the determinant of ``M``, 0-d.

        Args:
            spectrum: What `decompose` returned.
            damping: A number or 0-d array, not negative.
            scale: A number or 0-d array, not negative.

        Returns:
            0-d, in the dtype of the state.

        Raises:
            ArgumentError: If a number is negative or not finite.
            NotPositiveDefiniteError: If ``M`` is singular; under a trace the result is
                not finite.
        """
        backend = self._backend(spectrum)
        return self._total(
            spectrum,
            damped_logarithm(backend, spectrum, damping, scale, self.block.label),
        )

    def multiply_function(
        self, spectrum: BlockSpectrum, vector: Params, function: Function
    ) -> Params:
        """Return ``f(F)`` times a vector.

        Args:
            spectrum: What `decompose` returned.
            vector: As in `FisherBlock.multiply_matpower`.
            function: Takes an array of eigenvalues of ``F``, of any shape, and returns
                ``f`` of each.

        Returns:
            The product, of the structure, shapes and dtypes of `vector`.

        Raises:
            ShapeError: If the vector has another size.
            NotFiniteError: If it holds NaN or infinity.
        """
        backend, tensors = self._tensors(spectrum, vector)
        return self._applied(backend, spectrum, tensors, function, vector)

    def multiply_matpower(
        self,
        spectrum: BlockSpectrum,
        vector: Params,
        exp: float,
        damping: Scalar = 0.0,
        scale: Scalar = 1.0,
    ) -> Params:
        """Return ``M^exp`` times a vector; as `multiply_function` and `logdet`."""
        power = self._power(spectrum, exp, damping, scale)
        return self.multiply_function(spectrum, vector, power)

    def diagonal(
        self,
        spectrum: BlockSpectrum,
        like: Params,
        exp: float = 1.0,
        damping: Scalar = 0.0,
        scale: Scalar = 1.0,
    ) -> Params:
        """Return the diagonal of ``M^exp``; with `exp` -1 the marginal variances.

        Args:
            spectrum: What `decompose` returned.
            like: Arrays with the shapes and dtypes of the parameters.
            exp: The exponent.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            An entry for each parameter, in the form of `like`.

        Raises:
            KfacError: As `logdet`.
        """
        backend, _ = self._tensors(spectrum, like)
        power = self._power(spectrum, exp, damping, scale)
        parts = [spectral.diagonal(backend, part, power) for part in spectrum]
        return self.block.from_tensors(backend, tuple(parts), like)

    def sample(
        self,
        spectrum: BlockSpectrum,
        key: Key,
        like: Params,
        exp: float = -1.0,
        damping: Scalar = 0.0,
        scale: Scalar = 1.0,
    ) -> Params:
        """Draw from the normal distribution with mean zero and covariance ``M^exp``.

        Args:
            spectrum: What `decompose` returned.
            key: A generator of NumPy or PyTorch, or a key of JAX.
            like: Arrays with the shapes and dtypes of the parameters.
            exp: -1 for the covariance of a Laplace approximation; 1 for that of
                gradients.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            One sample, in the form of `like`.

        Raises:
            ArgumentError: If the key is not one of the library.
            KfacError: As `logdet`.
        """
        backend, _ = self._tensors(spectrum, like)
        half = as_exponent(exp, self.block.label, "exp") / 2
        root = self._power(spectrum, half, damping, scale)
        dtype, arrays = spectrum[0].eigenvalues.dtype, tensors_of(like)

        def draw(key: Any) -> tuple[Array, ...]:
            keys = backend.split(key, len(arrays))
            return tuple(
                backend.normal(own, tuple(x.shape), dtype, backend.creation_device(x))
                for own, x in zip(keys, arrays, strict=True)
            )

        noise = drawn(backend, key, self.block.label, draw)
        tensors = self.block.to_tensors(backend, self._as_vector(noise, like))
        return self._applied(backend, spectrum, tensors, root, like)

    @property
    def _label(self) -> str:
        return self.block.label

    def _parts(self, vector: Params, argument: str) -> tuple[Array, ...]:
        return tensors_of(vector)

    def _as_vector(self, arrays: tuple[Array, ...], like: Params) -> Params:
        return arrays if isinstance(like, tuple | list) else arrays[0]

    def _product(
        self,
        spectrum: BlockSpectrum,
        exp: float,
        damping: Scalar,
        scale: Scalar,
        function: Function | None,
    ) -> Callable[[Params], Params]:
        if function is None:
            function = self._power(spectrum, exp, damping, scale)
        return partial(self.multiply_function, spectrum, function=function)

    def _grams(
        self,
        spectrum: BlockSpectrum,
        vectors: Params,
        grouped: Callable[[Array], Array],
        exp: float,
        damping: Scalar,
        scale: Scalar,
    ) -> Array:
        backend, arrays = self._backend(spectrum), tensors_of(vectors)
        dtype = spectrum[0].eigenvalues.dtype
        backend_for(self._label, "spectrum, vectors", spectrum[0].eigenvalues, *arrays)
        power = self._power(spectrum, exp, damping, scale)

        def tensors(own: tuple[Array, ...]) -> tuple[Array, ...]:
            vector = self._as_vector(own, vectors)
            found = self.block.to_tensors(backend, vector)
            return tuple(backend.xp.astype(x, dtype) for x in found)

        stacks = backend.vmap(tensors, arrays)
        first, *others = [
            spectral.inner_products(backend, part, stack, power, grouped)
            for part, stack in zip(spectrum, stacks, strict=True)
        ]
        return sum(others, first)

    def _applied(
        self,
        backend: Backend,
        spectrum: BlockSpectrum,
        tensors: tuple[Array, ...],
        function: Function,
        like: Params,
    ) -> Params:
        """Return a function of the matrix times tensors, in the form of `like`."""
        products = tuple(
            spectral.apply(backend, part, x, function)
            for part, x in zip(spectrum, tensors, strict=True)
        )
        return self.block.from_tensors(backend, products, like)

    def _power(
        self, spectrum: BlockSpectrum, exp: float, damping: Scalar, scale: Scalar
    ) -> Function:
        backend, label = self._backend(spectrum), self.block.label
        return damped_power(backend, spectrum, exp, damping, scale, label)

    def _total(self, spectrum: BlockSpectrum, function: Function) -> Array:
        backend = self._backend(spectrum)
        first, *others = [spectral.total(backend, part, function) for part in spectrum]
        return sum(others, first)

    def _backend(self, spectrum: BlockSpectrum) -> Backend:
        given: object = spectrum
        parts = given if isinstance(given, tuple) else ()
        if not parts or not all(isinstance(part, Spectrum) for part in parts):
            msg = (
                f"{self.block.label}: spectrum is a {type(spectrum).__name__}, expected"
                " what decompose returned"
            )
            raise StateError(msg)
        return backend_for(self.block.label, "spectrum", *tree.leaves(spectrum))

    def _tensors(
        self, spectrum: BlockSpectrum, vector: Params
    ) -> tuple[Backend, tuple[Array, ...]]:
        """Return the tensors of a vector, in the dtype of the spectrum."""
        label = self.block.label
        backend = self._backend(spectrum)
        like = spectrum[0].eigenvalues
        arrays = tensors_of(vector)
        backend_for(label, "spectrum, vector", like, *arrays)
        for array in arrays:
            statistics_dtype(backend, array, "vector", label)
            check_finite(backend, array, "vector", label)
        tensors = self.block.to_tensors(backend, vector)
        return backend, tuple(backend.xp.astype(x, like.dtype) for x in tensors)
