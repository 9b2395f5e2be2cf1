"""The block of a fully connected layer that is used in series, as in recurrence."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from kfac_core import moving_average
from kfac_core.arguments.powers import as_exponent, shown
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.shared.fully_connected import MultiUseFB
from kfac_core.fisher_factors import (
    DEFAULT_DAMPING_ID,
    FactorState,
    FullyConnectedMultiKF,
)
from kfac_core.fisher_factors.base.messages import not_decomposed
from kfac_core.fisher_factors.shared.lagged_state import DenseWithLag
from kfac_core.linalg.kronecker import kron_matmul
from kfac_core.linalg.layouts import DenseLayout
from kfac_core.linalg.operators import FullMatrixOperator
from kfac_core.linalg.retry import retried
from kfac_core.linalg.series import (
    lag_sum,
    option1_matrix,
    option2_matrix,
    root_and_psi,
)
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Params, Scalar


class SeriesFBApproximation(IntEnum):
    """What a `FullyConnectedSeriesFB` takes the covariance of the uses to be.

    Example:
        >>> import numpy as np
        >>> x, g = np.ones((3, 1)), np.asarray([[1.0], [2.0], [4.0]])
        >>> one = np.ones((1, 1))
        >>> for option in SeriesFBApproximation:  # one case, three uses
        ...     block = FullyConnectedSeriesFB(1, 1, num_uses=3, option=option)
        ...     state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        ...     state = block.update_inverses(state, damping=1.0)
        ...     print(option.name, block.multiply_inverse(state, one).round(4))
        option1 [[0.0244]]
        option2 [[0.0208]]
    """

    option1 = 1
    """Covariances of lag one are made symmetric; the series has ``T`` uses."""

    option2 = 2
    """Covariances of lag one are kept as they are; the series has no end."""


@dataclass(frozen=True)
class FullyConnectedSeriesFB(MultiUseFB):
    """K-FAC of a shared fully connected layer whose uses follow one another in time.

    Inputs and gradients over time are taken to have the covariances of a chain, which
    the covariances of lags zero and one determine; see `kfac_core.linalg.series`
    (Martens, Ba & Johnson, 2018, section 3.5). Damping is added to both factors of lag
    zero, and to nothing of lag one. The block serves the inverse alone.

    Unlike in ``tf.contrib.kfac``, option 1 keeps the sign of a correlation, and takes
    its limit where a correlation is complete; and option 2 stays positive definite
    under rounding.

    Attributes:
        input_size: Length of a row of inputs.
        output_size: Length of a row of outputs.
        has_bias: Whether the layer has a bias: the last row of its parameters' matrix.
        num_uses: ``T``, or None where the data say it; see `kfac_core.rows.uses`.
        batch_first: As in `FullyConnectedMultiIndepFB`.
        option: A `SeriesFBApproximation`, or its number.
        layout: As in `FullyConnectedKFACBasicFB`.

    Example:
        >>> import numpy as np
        >>> block = FullyConnectedSeriesFB(2, 1, num_uses=3, option=2)
        >>> x = np.asarray([[1, 0], [2, 1], [0, 1], [1, 1], [2, 0], [1, 2.0]])
        >>> g = np.asarray([[1], [-1], [0.5], [-0.5], [1], [2]])
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=0.3)
        >>> block.multiply_inverse(state, np.asarray([[1.0], [2.0]])).round(6)
        array([[-0.02138 ],
               [ 0.288633]])
    """

    input_size: int
    output_size: int
    has_bias: bool = False
    num_uses: int | None = None
    option: int = SeriesFBApproximation.option2
    layout: DenseLayout = field(default="in_out", kw_only=True)
    input_factor: FullyConnectedMultiKF = field(init=False, repr=False, compare=False)
    output_factor: FullyConnectedMultiKF = field(init=False, repr=False, compare=False)

    lag_form: ClassVar[DenseWithLag] = DenseWithLag()
    """The form of both factors."""

    def __post_init__(self) -> None:
        """Make the factors, once.

        Raises:
            ArgumentError: If the option is unknown.
            UnsupportedError: If anything but the inverse is to be served, or the
                damping is ``"exact"``.
        """
        super().__post_init__()
        option: object = self.option
        is_number = isinstance(option, int) and not isinstance(option, bool)
        if not is_number or self.option not in tuple(SeriesFBApproximation):
            msg = f"{self.label}: option is {shown(self.option)}, expected 1 or 2"
            raise ArgumentError(msg)
        object.__setattr__(self, "option", SeriesFBApproximation(self.option))
        self._set_dense_layout(
            self.layout, self.input_size, self.output_size, self.label
        )
        if set(self.matpowers) - {-1.0} or self.cholesky or self.cholesky_inverse:
            raise self._unsupported(what="matpowers but -1, nor Cholesky factors")
        if self.damping_type == "exact":
            raise self._unsupported(what="exact damping (but pi, off, constant)")
        self._set_factors(
            self._rows_factor(self.input_size, self.has_bias, "input"),
            self._rows_factor(self.output_size, False, "output"),
        )

    def inverse_error(self, state: KroneckerState, damping: Scalar) -> Array:
        """Raise an `UnsupportedError`: the block keeps no inverses."""
        raise self._unsupported(what="errors of its inverse (update_inverses has none)")

    def multiply_matpower(
        self, state: KroneckerState, vector: Params, exp: float
    ) -> Params:
        """Return the inverse of the damped block times `vector`.

        Args:
            state: The state.
            vector: As in `FisherBlock.multiply_matpower`.
            exp: -1.

        Returns:
            The product, of the structure, shapes and dtypes of `vector`.

        Raises:
            UnsupportedError: If `exp` is not -1.
            ShapeError: If the vector has another size.
            NotComputedError: If `update_inverses` has not run yet.
        """
        wanted = as_exponent(exp, self.label, "exp")
        if wanted != -1:
            raise self._unsupported(what=f"the matpower {wanted:g}")
        backend = self._vector_backend(self._own(state), vector)
        matrix = self._matrix(backend, vector)
        if self.option == SeriesFBApproximation.option1:
            product = self._inverse_option1(state, matrix)
        else:
            product = self._inverse_option2(state, matrix)
        return self._params(backend, product, vector)

    def multiply_cholesky(
        self, state: KroneckerState, vector: Params, transpose: bool = False
    ) -> Params:
        """Raise an `UnsupportedError`."""
        raise self._unsupported(what="Cholesky factors")

    def multiply_cholesky_inverse(
        self, state: KroneckerState, vector: Params, transpose: bool = False
    ) -> Params:
        """Raise an `UnsupportedError`."""
        raise self._unsupported(what="Cholesky factors")

    def full_fisher_block(self, state: KroneckerState) -> Array:
        """Return the block of the current statistics, dense and undamped.

        A singular factor is inverted by its pseudo-inverse, the limit of a damping that
        goes to zero.

        Raises:
            not_decomposed: If the library finds no eigendecomposition, not even in
                float64.
        """
        now = self._now(state)
        backend = backend_of(state.scale)
        a = self._root_and_psi(self.input_factor, now.input_factor)
        g = self._root_and_psi(self.output_factor, now.output_factor)
        uses = moving_average.value(backend, state.uses, self.label)
        first = self.option == SeriesFBApproximation.option1
        make = option1_matrix if first else option2_matrix
        matrix, retry = retried(backend, lambda b: make(b, a, g, uses), uses)
        if retry is not None:
            raise not_decomposed(backend, self.label, matrix, retry)
        return self._laid_out(backend, matrix)

    # The inverse of a sum over lags is no product of two factors.
    spectrum = FisherBlock.spectrum
    to_tensors = FisherBlock.to_tensors
    from_tensors = FisherBlock.from_tensors

    def _root_and_psi(
        self, factor: FullyConnectedMultiKF, state: FactorState
    ) -> tuple[Array, Array]:
        eigen, lagged = factor.get_eigendecomp(state), factor.get_cov_dt1(state)
        return root_and_psi(backend_of(lagged), eigen, lagged)

    def _inverse_option1(self, state: KroneckerState, matrix: Array) -> Array:
        a = self.input_factor.get_option1quants(state.input_factor)
        g = self.output_factor.get_option1quants(state.output_factor)
        backend = backend_of(state.scale)
        xp = backend.xp
        left, right = FullMatrixOperator(a.lmat), FullMatrixOperator(g.lmat)
        # Rounding can leave the bounds; at -1 the sum may be zero.
        x = xp.clip(a.psi[:, None] * g.psi[None, :], -1.0, 1.0)
        eigenvalues = lag_sum(backend, x, state.scale)
        eigenvalues = xp.clip(eigenvalues, min=float(xp.finfo(x.dtype).eps))
        rotated = kron_matmul(left, right, matrix, adjoint_a=True)
        return kron_matmul(left, right, rotated / eigenvalues, adjoint_g=True)

    def _inverse_option2(self, state: KroneckerState, matrix: Array) -> Array:
        a = self.input_factor.get_option2quants(state.input_factor)
        g = self.output_factor.get_option2quants(state.output_factor)
        backend = backend_of(state.scale)
        xp = backend.xp
        pmat_a, pmat_g = FullMatrixOperator(a.pmat), FullMatrixOperator(g.pmat)
        kmat_a, kmat_g = FullMatrixOperator(a.kmat), FullMatrixOperator(g.kmat)
        # Singular values are known to about n units in the last place of one: less
        # than that is noise, and would make the inverse indefinite or huge.
        noise = max(a.mu.shape[0], g.mu.shape[0]) * xp.finfo(a.mu.dtype).eps
        gap = 1 - a.mu[:, None] * g.mu[None, :]
        gap = xp.maximum(gap, noise * xp.ones_like(gap))
        later = matrix - kron_matmul(pmat_a, pmat_g, matrix, adjoint_g=True)
        scaled = kron_matmul(kmat_a, kmat_g, later, adjoint_a=True) / gap
        solved = kron_matmul(kmat_a, kmat_g, scaled, adjoint_g=True)
        solved = solved - kron_matmul(pmat_a, pmat_g, solved, adjoint_a=True)
        return solved / state.scale

    def _factor_options(self, side: str) -> dict[str, Any]:
        options = super()._factor_options(side)
        first = self.option == SeriesFBApproximation.option1
        ids = (DEFAULT_DAMPING_ID,)
        return {
            "name": options["name"],
            **self._averaging(),
            **self._inverting(),
            "form": self.lag_form,
            "option1quants" if first else "option2quants": ids,
        }

    def _unsupported(self, *, what: str) -> UnsupportedError:
        msg = (
            f"{self.label}: a series block does not have {what}; it serves the inverse"
            " (power -1) alone. FullyConnectedMultiIndepFB has them all"
        )
        return UnsupportedError(msg)
