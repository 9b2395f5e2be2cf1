"""`OfVectors`: what a matrix makes of many vectors, and its form for SciPy."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kfac_core import tree
from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.linalg.parameters import check_stack
from kfac_core.linalg.spectrum import Function
from kfac_core.spectral.scipy_operator import scipy_operator
from kfac_core.typing import Array, Scalar

S = TypeVar("S")  # a spectrum
V = TypeVar("V")  # a vector, in the form of the parameters
D = TypeVar("D")  # a damping


class OfVectors(ABC, Generic[S, V, D]):
    """Abstract base of the matrices ``M = scale F + damping I``."""

    def inner_products(
        self,
        spectrum: S,
        vectors: V,
        exp: float = 1.0,
        damping: D | float = 0.0,
        scale: Scalar = 1.0,
    ) -> Array:
        """Return ``v_i' M^exp v_j`` of several vectors at once.

        Args:
            spectrum: What `decompose` returned.
            vectors: As in `multiply_matpower`, each array with a leading axis over
                vectors.
            exp: The exponent.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            ``[count, count]``, in the dtype of the state.

        Raises:
            KfacError: As `multiply_matpower`.
        """
        backend, arrays = self._arrays(vectors, "vectors")
        check_stack(backend, arrays, "vectors", self._label)
        power = exp, damping, scale
        return self._grams(spectrum, vectors, lambda x: x[None, ...], *power)[0, ...]

    def quadratic_forms(
        self,
        spectrum: S,
        vectors: V,
        exp: float = 1.0,
        damping: D | float = 0.0,
        scale: Scalar = 1.0,
    ) -> Array:
        """Return ``v_i' M^exp v_i`` of several vectors at once.

        Arguments and errors are those of `inner_products`, of which this is the
        diagonal, at the cost of the diagonal alone.

        Returns:
            ``[count]``, in the dtype of the state.
        """
        backend, arrays = self._arrays(vectors, "vectors")
        check_stack(backend, arrays, "vectors", self._label)
        power = exp, damping, scale
        return self._grams(spectrum, vectors, lambda x: x[:, None, ...], *power)[
            :, 0, 0
        ]

    def functional_variance(
        self,
        spectrum: S,
        jacobians: V,
        damping: D | float = 0.0,
        scale: Scalar = 1.0,
    ) -> Array:
        """Return ``J inv(M) J'`` for the Jacobian ``J`` of each of several points.

        It is the covariance of the outputs of a linearized network at a point, under a
        Laplace approximation.

        Args:
            spectrum: What `decompose` returned.
            jacobians: For each parameter ``[points, outputs, ...]``, with the axes of
                the parameter last.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            ``[points, outputs, outputs]``, in the dtype of the state.

        Raises:
            KfacError: As `multiply_matpower`.
        """
        backend, arrays = self._arrays(jacobians, "jacobians")
        axes = ("points", "outputs")
        check_stack(backend, arrays, "jacobians", self._label, axes)
        points, outputs = arrays[0].shape[:2]

        def joined(x: Array) -> Array:
            flat: Array = backend.xp.reshape(x, (points * outputs, *x.shape[2:]))
            return flat

        def split(x: Array) -> Array:
            rows: Array = backend.xp.reshape(x, (points, outputs, *x.shape[1:]))
            return rows

        vectors = self._as_vector(tuple(map(joined, arrays)), jacobians)
        return self._grams(spectrum, vectors, split, -1.0, damping, scale)

    def as_linear_operator(
        self,
        spectrum: S,
        like: V,
        exp: float = 1.0,
        damping: D | float = 0.0,
        scale: Scalar = 1.0,
        *,
        function: Function | None = None,
    ) -> Any:
        """Return ``M^exp`` as a linear operator of SciPy, or another function of ``F``.

        It takes and returns vectors of NumPy, for `scipy.sparse.linalg.eigsh`, ``cg``
        and whatever else takes an operator. Arrays of other libraries are copied to and
        from NumPy at each product.

        Args:
            spectrum: What `decompose` returned.
            like: The parameters, which give shapes and devices.
            exp: The exponent: 1 for the matrix, -1 for its inverse.
            damping: As in `logdet`.
            scale: As in `logdet`.
            function: As in `multiply_function`; in place of a power, so that `exp`,
                `damping` and `scale` are not used.

        Returns:
            A `scipy.sparse.linalg.LinearOperator` of the dtype of the state. Its
            vectors hold the parameters one after another, each row-major, as
            `full_fisher_block` does; of an estimator in the order of its `variables`.

        Raises:
            KfacError: As `multiply_matpower`.

        Example:
            >>> import numpy as np
            >>> from scipy.sparse.linalg import eigsh
            >>> import kfac_core as kc
            >>> block = kc.blocks.FullyConnectedKFACBasicFB(2, 1)
            >>> x, g = np.asarray([[2.0, 0.0], [0.0, 4.0]]), np.ones((2, 1))
            >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
            >>> curvature = kc.SpectralBlock(block)
            >>> spectrum = curvature.decompose(state)
            >>> fisher = curvature.as_linear_operator(spectrum, like=np.zeros((2, 1)))
            >>> eigsh(fisher, 1, return_eigenvectors=False).round(6)
            array([8.])
        """
        product = self._product(spectrum, exp, damping, scale, function)
        product(like)  # which refuses what is wrong now, and not within SciPy
        _, arrays = self._arrays(like, "like")

        def multiply(vector: tuple[Array, ...]) -> tuple[Array, ...]:
            found = product(self._as_vector(vector, like))
            return self._arrays(found, "product")[1]

        return scipy_operator(arrays, tree.leaves(spectrum)[0], multiply)

    @property
    @abstractmethod
    def _label(self) -> str:
        """What messages call the matrix."""

    @abstractmethod
    def _parts(self, vector: V, argument: str) -> tuple[Array, ...]:
        """Return the arrays of a vector, in one order."""

    @abstractmethod
    def _as_vector(self, arrays: tuple[Array, ...], like: V) -> V:
        """Return the vector that has these `_parts`."""

    @abstractmethod
    def _product(
        self,
        spectrum: S,
        exp: float,
        damping: D | float,
        scale: Scalar,
        function: Function | None,
    ) -> Callable[[V], V]:
        """Return what multiplies with a power, or with another function."""

    @abstractmethod
    def _grams(
        self,
        spectrum: S,
        vectors: V,
        grouped: Callable[[Array], Array],
        exp: float,
        damping: D | float,
        scale: Scalar,
    ) -> Array:
        """Return the inner products within each group of vectors.

        Args:
            spectrum: What `decompose` returned.
            vectors: With a leading axis over vectors, checked.
            grouped: Splits this axis in two: groups, and the vectors of a group.
            exp: The exponent.
            damping: As in `logdet`.
            scale: As in `logdet`.

        Returns:
            ``[groups, vectors, vectors]``.
        """

    def _arrays(self, vector: V, argument: str) -> tuple[Backend, tuple[Array, ...]]:
        arrays = self._parts(vector, argument)
        return backend_for(self._label, argument, *arrays), arrays
