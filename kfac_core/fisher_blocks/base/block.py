"""`FisherBlock`: what all blocks share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from kfac_core import tree
from kfac_core.arguments.arrays import backend_for, statistics_dtype
from kfac_core.arguments.options import check_options
from kfac_core.arguments.powers import as_exponents
from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.base.laid_out import LaidOut
from kfac_core.fisher_blocks.base.merging import fields_merged
from kfac_core.fisher_blocks.base.state import BlockState
from kfac_core.fisher_factors import DEFAULT_DAMPING_ID, FactorState, FisherFactor
from kfac_core.fisher_factors.base.form import decomposed
from kfac_core.linalg.parameters import tensors_of
from kfac_core.linalg.spectrum import Eigenbasis, Spectrum
from kfac_core.moving_average import Ema, MovingAverage, of_number, weights_of
from kfac_core.registry import backend_of
from kfac_core.spec import Spec
from kfac_core.state import check_finite
from kfac_core.typing import Array, Params, Scalar

S = TypeVar("S", bound=BlockState)


@dataclass(frozen=True, kw_only=True)
class FisherBlock(Spec, LaidOut, ABC, Generic[S]):
    """Abstract base of the blocks.

    A block estimates the Fisher of the mean loss for one layer's parameters. Its data
    are gradients of the summed loss: one row for each case, not divided by the batch.

    Attributes:
        name: Name of the layer, for messages; the name of the class if empty.
        matpowers: Powers of the damped block to serve.
        cholesky: Whether to serve products with its Cholesky factor.
        cholesky_inverse: Whether to serve products with the inverse of the Cholesky
            factor.
        zero_debias: As in `kfac_core.spec.Spec`, as all options that follow.
        init_covariances_at_zero: The first value of an average without debiasing.
        precision: Precision of the products that statistics are made of.
        newton_steps: Number of Newton-Schulz steps that compute an inverse.
        inverse_dtype: Dtype that `update_inverses` computes in.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import NaiveDiagonalFB
        >>> block: FisherBlock = NaiveDiagonalFB(size=1, matpowers=(-1.0, -0.5))
        >>> x = np.asarray([4.0])
        >>> state = block.update_covs(block.init(x), x, batch_size=1, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=9.0)  # 16 + 9
        >>> block.multiply_inverse(state, x), block.multiply_matpower(state, x, -0.5)
        (array([0.16]), array([0.8]))
    """

    matpowers: tuple[float, ...] = (-1.0,)
    cholesky: bool = False
    cholesky_inverse: bool = False
    has_factors: ClassVar[bool] = True

    is_repeated: ClassVar[bool] = False
    """Whether a case uses the layer at many locations, and not just once."""

    takes_inputs: ClassVar[bool] = True
    """Whether `update_covs` takes the layer's inputs before its output gradients."""

    takes_gradients: ClassVar[bool] = True
    """Whether `update_covs` takes gradients; if not, no backward pass is needed."""

    def __post_init__(self) -> None:
        """Write every size as an integer and every power as a float, once.

        Raises:
            ArgumentError: If a size is not a positive integer, or a power no finite
                number.
        """
        check_options(self)
        powers = as_exponents(self.matpowers, self.label)
        object.__setattr__(self, "matpowers", powers)
        self.sign()

    @property
    def needs_key(self) -> bool:
        """Whether `update_covs` draws random numbers, and takes a ``key`` for that."""
        return False

    def register_matpower(self, exp: float) -> Self:
        """Return a spec that serves the power `exp` too.

        Bring a state along with `init_inverses`.
        """
        return replace(self, matpowers=(*self.matpowers, exp))

    def register_inverse(self) -> Self:
        """Return a spec that serves the inverse too."""
        return self.register_matpower(-1)

    def register_cholesky(self) -> Self:
        """Return a spec that serves the Cholesky factor too."""
        return replace(self, cholesky=True)

    def register_cholesky_inverse(self) -> Self:
        """Return a spec that serves the inverse of the Cholesky factor too."""
        return replace(self, cholesky_inverse=True)

    @abstractmethod
    def init(self, like: Array) -> S:
        """Return the state before any data.

        Args:
            like: Array that gives library, device and dtype (at least float32).
        """

    @abstractmethod
    def init_inverses(self, state: S) -> S:
        """Return `state` with its statistics, and nothing computed from them yet."""

    @abstractmethod
    def update_covs(self, state: S, *args: Any, **kwargs: Any) -> S:
        """Fold a batch into the statistics: each block from its data.

        Squares of data above the range of the state's dtype are refused; those below
        its least normal number count as zero, as those of zeros do.
        """

    @abstractmethod
    def update_inverses(self, state: S, damping: Scalar) -> S:
        """Compute all that is registered from the current statistics.

        Args:
            state: The state; left as it is.
            damping: Added to the block, approximately, times the identity; a number or
                0-d array, not negative.

        Returns:
            The new state.

        Raises:
            ArgumentError: If the damping is negative or not finite.
            NotComputedError: If there are no statistics yet.
            NotPositiveDefiniteError: If the damped block has no inverse or Cholesky
                factor. Under a trace the state is kept, with ``ok`` False.
        """

    @abstractmethod
    def inverse_error(self, state: S, damping: Scalar) -> Array:
        """Return how wrong the stored inverse is for the current statistics.

        Let ``X`` be the stored inverse, and ``F`` the block as `update_inverses` would
        damp it now. The error is the least ``rho`` with
        ``|X g - inv(F) g| <= rho |inv(F) g|`` for every gradient ``g``, in the norm
        ``|v|^2 = v' F v``. It is estimated as in `FisherFactor.inverse_error`, at a
        small part of the cost of `update_inverses`.

        Args:
            state: The state.
            damping: As in `update_inverses`.

        Returns:
            0-d, a constant to differentiation; infinite where nothing is computed yet.

        Raises:
            ArgumentError: If the damping is negative or not finite.
            NotComputedError: If there are no statistics yet.
            NotRegisteredError: If the block does not serve its inverse.
            UnsupportedError: If it stores no inverse.
        """

    def refresh_inverses(self, state: S, damping: Scalar, tolerance: Scalar) -> S:
        """Compute anew all that is registered, unless the inverse is still good.

        Either everything is computed or nothing, so that both factors of a product have
        one age.

        Args:
            state: The state; left as it is.
            damping: As in `update_inverses`.
            tolerance: The largest `inverse_error` of an inverse that is kept, not
                negative.

        Returns:
            The new state; where the inverse is kept, its damping is, too. Under a trace
            it is also kept where the tolerance is out of range, with ``ok`` False.

        Raises:
            ArgumentError: If the tolerance is negative or not finite.
            KfacError: What `inverse_error` and `update_inverses` raise.
        """
        error = self.inverse_error(state, damping)
        backend = backend_for(self.label, "state", error)
        limit = as_scalar(backend, tolerance, error, "tolerance", self.label)
        valid = limit >= 0  # a traced one out of range is NaN
        is_kept = (error <= limit) | ~valid
        return backend.cond(
            is_kept,
            # Nothing else is refused; to JAX, the flag differs where the error does.
            lambda: state.with_flag("derived_ok", valid & is_kept),
            lambda: self.update_inverses(state, damping),
        )

    @abstractmethod
    def multiply_matpower(self, state: S, vector: Params, exp: float) -> Params:
        """Return the damped block to the power `exp`, times `vector`.

        Args:
            state: The state.
            vector: ``weights``, or ``(weights, bias)``, in the shapes and the layout of
                the layer's parameters.
            exp: A registered exponent, or 1. The power 1 uses the current statistics
                and the damping of the last `update_inverses`; all other powers are
                snapshots that `update_inverses` took.

        Returns:
            The product, of the structure, shapes and dtypes of `vector`.

        Raises:
            ShapeError: If the vector has another size.
            NotRegisteredError: If the spec does not serve the power.
            NotComputedError: If `update_inverses` has not run yet.
        """

    def multiply(self, state: S, vector: Params) -> Params:
        """Return the damped block times `vector`; see `multiply_matpower`."""
        return self.multiply_matpower(state, vector, 1)

    def multiply_inverse(self, state: S, vector: Params) -> Params:
        """Return the damped block's inverse times `vector`; see `multiply_matpower`."""
        return self.multiply_matpower(state, vector, -1.0)

    @abstractmethod
    def multiply_cholesky(
        self, state: S, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``L`` or its transpose times `vector`, where ``L L'`` is the block.

        Args:
            state: The state.
            vector: As in `multiply_matpower`.
            transpose: Whether to use ``L'``.

        Returns:
            The product, as in `multiply_matpower`; so are the errors.
        """

    @abstractmethod
    def multiply_cholesky_inverse(
        self, state: S, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``inv(L)`` or its transpose times `vector`; see `multiply_cholesky`.

        With `transpose` and a standard normal `vector`, the product is a sample of the
        normal distribution whose covariance is the damped block's inverse.
        """

    @abstractmethod
    def full_fisher_block(self, state: S) -> Array:
        """Return the block, undamped and dense, for tests and teaching.

        It acts on the parameters as one vector: the weights row-major, as they lie in
        their layout, then the bias.
        """

    def spectrum(self, state: S) -> tuple[Spectrum, ...]:
        """Return the eigenvalues and eigenvectors of the block, undamped.

        They are of the current statistics; `update_inverses` is not needed. A block
        that is no product of factors is decomposed as one dense matrix.

        Args:
            state: The state.

        Returns:
            A spectrum for each part of the parameters that is taken to be uncorrelated
            with the others; mostly there is one. See `kfac_core.spectral`.

        Raises:
            EigendecompositionError: If the library finds none, not even in float64.
            NotComputedError: If there are no statistics yet.
        """
        dense = self.full_fisher_block(state)
        found = decomposed(backend_of(dense), dense, self.label)
        return (Spectrum((Eigenbasis(found.values, (found.vectors,)),), found.values),)

    def factors(self, state: S) -> dict[str, tuple[FisherFactor, FactorState]]:
        """Return the factors that the block is made of, each with its state.

        The keys are the names of the fields that hold both in spec and state:
        ``input_factor`` and ``output_factor``, or ``factor``. A block without such
        fields has no factors.
        """
        fields: dict[str, Any] = getattr(self._own(state), "_asdict", dict)()
        return {
            name: (getattr(self, name), part)
            for name, part in fields.items()
            if isinstance(part, FactorState)
        }

    def _union(self, states: tuple[Any, ...]) -> Any:
        return fields_merged(self, states)

    def _served(self) -> dict[str, Any]:
        """Return what a factor must serve so that this block can serve its own."""
        ids = (DEFAULT_DAMPING_ID,)
        return {
            # The power 1 stores nothing, and makes sure that there is a damping.
            "matpowers": (1.0, *self.matpowers),
            "cholesky": ids if self.cholesky else (),
            "cholesky_inverse": ids if self.cholesky_inverse else (),
            **self._averaging(),
            **self._inverting(),
        }

    def _averaging(self) -> dict[str, Any]:
        names = ("zero_debias", "init_covariances_at_zero", "precision")
        return {name: getattr(self, name) for name in names}

    def _inverting(self) -> dict[str, Any]:
        names = ("newton_steps", "inverse_dtype")
        return {name: getattr(self, name) for name in names}

    def _init_uses(self, like: Array) -> MovingAverage:
        """Return the number of uses of a case before any data; 1 if there is one."""
        start = 0.0 if self.is_repeated else 1.0
        return of_number(like * 0 + start)

    def _ema(
        self,
        backend: Backend,
        ema_decay: Scalar,
        ema_weight: Scalar | None,
        like: Array,
    ) -> Ema:
        """Return decay and weight, checked once, as factors take them for a decay."""
        debias = self.zero_debias
        return weights_of(
            backend, ema_decay, ema_weight, like, self.label, zero_debias=debias
        )

    def _vector_backend(self, state: S, vector: Params) -> Backend:
        """Return the backend of a state and a vector of real numbers."""
        tensors = tensors_of(vector)
        like = tree.first(state)
        backend = backend_for(self.label, "state, vector", like, *tensors)
        for tensor in tensors:
            statistics_dtype(backend, tensor, "vector", self.label)
            check_finite(backend, tensor, "vector", self.label)
        return backend
