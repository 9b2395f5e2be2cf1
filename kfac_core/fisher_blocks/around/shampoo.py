"""`ShampooFB`: powers of the second moments of mean gradients over rows and columns."""

from dataclasses import dataclass, replace
from typing import ClassVar

from kfac_core.arguments.powers import as_exponent
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.fisher_blocks.around.fitted import Fit, FittedProductFB
from kfac_core.fisher_blocks.around.powers_alone import PowersAloneFB
from kfac_core.fisher_blocks.around.state import FittedState
from kfac_core.fisher_blocks.case_gradients.gradients import CaseGradients
from kfac_core.fisher_blocks.case_gradients.mean_moments import folded_moments
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.linalg import psd
from kfac_core.linalg.spectrum import Spectrum, dense_matrix
from kfac_core.moving_average import Ema, MovingAverage, mean_or_zero
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Params, Scalar


@dataclass(frozen=True)
class ShampooFB(PowersAloneFB[FittedState], FittedProductFB):
    """Shampoo: ``F = kron(L^p, R^p)`` of the mean gradients ``D`` of batches.

    ``L`` is the mean of ``D D'`` over batches, and ``R`` that of ``D' D``. With ``p`` a
    quarter, the inverse of the block is the preconditioner of Gupta et al. (2018):
    ``inv(F) D = L^(-1/4) D R^(-1/4)``. With ``p`` a half, it is the root of
    ``kron(L, R) / tr L``, which is the nearer to the second moment of mean gradients
    (Morwani et al., 2024). Any ``p`` has the scale of a gradient: the block is
    ``kron(L^p, R^p) / t^(2 p - 1/2)`` for the trace ``t`` of both. It is no estimate of
    a Fisher: take the damping and the length of a step as for Adam, and in a
    `FisherEstimator` the estimation mode ``"empirical"``, whose gradients are those of
    the targets. Several sources have a mean gradient each.

    The damping is added to ``L`` and to ``R``, over ``t^(1 - 1 / (4 p))``. A power is
    one of both, and computed by `update_inverses`; so is the power 1. The Cholesky
    factor is the power 1/2. The means are over batches: sums as in Adagrad are ``T``
    times as large after ``T`` batches without decay. So the shards that states saw
    before they `merge` are batches of their own.

    Attributes:
        block: The block of the layer, such as a `FullyConnectedKFACBasicFB`, whose
            sides are dense or diagonal. Its averaging holds.
        power: ``p``, positive.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = ShampooFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x, g = np.asarray([[2.0, 0.0]]), np.asarray([[8.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=1e-12)
        >>> block.multiply_inverse(state, np.asarray([[16.0], [0.0]])).round(6)
        array([[1.],
               [0.]])
    """

    power: float = 0.25

    is_of_means: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the power, too.

        Raises:
            ArgumentError: If it is not a positive number.
        """
        power = as_exponent(self.power, self.label, "power")
        if not power > 0:
            msg = f"{self.label}: power is {power:g}, expected a positive number"
            raise ArgumentError(msg)
        object.__setattr__(self, "power", power)
        super().__post_init__()

    def _bare(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block whose damping is added to each side."""
        return replace(block, damping_type="constant")

    def _serving(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the product ``kron(L, R)`` with all powers of it that are served."""
        served = {1.0, *self.matpowers}
        served |= {0.5} if self.cholesky else set()
        served |= {-0.5} if self.cholesky_inverse else set()
        powers = tuple(sorted(self.power * exp for exp in served))
        return replace(block, name=self.label, matpowers=powers)

    def _fitted(
        self,
        backend: Backend,
        old: FittedState,
        kfac: KroneckerState,
        gradients: CaseGradients,
        ema: Ema,
    ) -> Fit:
        sizes = (own.total.shape[0] for own in old[1:3])
        means = gradients.means(backend, *sizes)
        inputs = folded_moments(backend, old.inputs, [mean.mT for mean in means], ema)
        outputs = folded_moments(backend, old.outputs, means, ema)
        return Fit(*self._of_statistics(backend, inputs, outputs), inputs, outputs)

    def _of_statistics(
        self, backend: Backend, inputs: MovingAverage, outputs: MovingAverage
    ) -> tuple[Array, Array]:
        xp = backend.xp
        a, g = (mean_or_zero(backend, own) for own in (inputs, outputs))
        root = xp.sqrt(psd.trace(backend, a)) * xp.sqrt(psd.trace(backend, g))
        root = xp.where(root > 0, root, xp.ones_like(root))
        scale = root ** (1 - 0.25 / self.power)
        return a / scale, g / scale

    def inverse_error(self, state: FittedState, damping: Scalar) -> Array:
        """Raise an error: there is no inverse whose error could be told.

        Raises:
            UnsupportedError: Always.
        """
        self._own(state)
        msg = (
            f"{self.label}: a block of powers of two factors has no inverse of which"
            " the error could be told: call update_inverses, with no tolerance"
        )
        raise UnsupportedError(msg)

    def full_fisher_block(self, state: FittedState) -> Array:
        """Return ``kron(L^p, R^p)``, dense and undamped."""
        (spectrum,) = self.spectrum(state)
        backend = backend_of(spectrum.eigenvalues)
        return self._laid_out(backend, dense_matrix(backend, spectrum))

    def spectrum(self, state: FittedState) -> tuple[Spectrum, ...]:
        """Return the powers of products of both factors' eigenvalues."""
        (of_product,) = super().spectrum(state)
        powers = of_product.eigenvalues**self.power
        return (of_product._replace(eigenvalues=powers),)

    def _multiply(self, state: FittedState, vector: Params, exp: float) -> Params:
        """Return ``L^(p exp) V R^(p exp)``, damped."""
        block = self._own(state).block
        return self._product.multiply_matpower(block, vector, self.power * exp)
