"""`SoapFB`: the second moments of Adam, in the eigenbasis of Shampoo's factors."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from kfac_core.backend import Backend
from kfac_core.fisher_blocks.around.base import check_dense_or_diagonal
from kfac_core.fisher_blocks.case_gradients.gradients import CaseGradients
from kfac_core.fisher_blocks.case_gradients.mean_moments import folded_moments
from kfac_core.fisher_blocks.eigenvalue_corrected.base import InEigenbasisFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.linalg import psd
from kfac_core.linalg.spectrum import Eigenbasis, Spectrum, coordinates
from kfac_core.moving_average import Ema, MovingAverage, mean_or_zero
from kfac_core.registry import backend_of
from kfac_core.state import kept
from kfac_core.typing import Array


@dataclass(frozen=True)
class SoapFB(InEigenbasisFB):
    """SOAP: ``F = Q diag(sqrt(s)) Q'``, with Adam's second moments ``s`` in ``Q``.

    ``Q`` are eigenvectors of ``kron(L, R)``: of the means over batches of ``D D'`` and
    ``D' D``, for the mean gradient ``D`` of a batch. ``s_ij`` is the mean over batches
    of the square of the entry ``(i, j)`` of ``D`` in that basis (Vyas et al., 2024).
    `multiply_inverse` takes a momentum ``M`` to ``Q M' / (sqrt(s) + damping)``, rotated
    back: the damping is the ``eps`` of Adam. With ``ema_decay`` the second ``beta``,
    means are debiased as in Adam, and do not decay toward zero. The block is no
    estimate of a Fisher: take the length of a step as for Adam, and in a
    `FisherEstimator` the estimation mode ``"empirical"``. Several sources have a mean
    gradient each.

    If both sides are diagonal, the basis is the standard one and the block is Adam's.
    If one is, it is the one-sided method, for a side too large for a matrix.

    `update_covs` folds a batch into ``L`` and ``R``, and into ``s`` as soon as there is
    a basis. Until a batch follows the first basis, ``s`` are the eigenvalues of
    ``kron(L, R) / tr L``, those of `ShampooFB` with the power 1/2. A new basis takes
    the old second moments along: ``s`` becomes their diagonal in the new basis. (The
    authors' program keeps the numbers as they are, in the new order.)

    To `merge`, shards are batches of their own, of one `update_inverses`.

    Attributes:
        block: The block of the layer, such as a `FullyConnectedKFACBasicFB`, whose
            sides are dense or diagonal. Its averaging holds.
        basis: ``"qr"``: from the second time on, `update_inverses` takes a step of
            orthogonal iteration; ``"eigh"``: it computes the eigenvectors anew.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = SoapFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x, g = np.asarray([[2.0, 0.0]]), np.asarray([[8.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.9)
        >>> state = block.update_inverses(state, damping=1e-8)
        >>> state = block.update_covs(state, x, g, ema_decay=0.9)
        >>> block.multiply_inverse(state, np.asarray([[16.0], [0.0]])).round(6)
        array([[1.],
               [0.]])
    """

    basis: Literal["eigh", "qr"] = "qr"

    is_of_means: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the forms of both sides, too."""
        super().__post_init__()
        check_dense_or_diagonal(self._product)

    def _of_batch(
        self,
        backend: Backend,
        old: KroneckerState,
        kfac: KroneckerState,
        gradients: CaseGradients,
        ema: Ema,
        bases: tuple[Eigenbasis, Eigenbasis] | None,
    ) -> tuple[KroneckerState, Array | None]:
        first, second = old.input_factor.cov, old.output_factor.cov
        means = gradients.means(backend, *(x.total.shape[0] for x in (first, second)))
        inputs = folded_moments(backend, first, [mean.mT for mean in means], ema)
        outputs = folded_moments(backend, second, means, ema)
        # L and R are of whole gradients: no uses, and no weights, beside them.
        ones = [kept(inputs.weight + 0) for _ in range(4)]
        new = kfac._replace(
            input_factor=kfac.input_factor._replace(cov=inputs),
            output_factor=kfac.output_factor._replace(cov=outputs),
            uses=MovingAverage(*ones[:2]),
            weights=MovingAverage(*ones[2:]),
        )
        if bases is None:
            return new, None
        rotated = [coordinates(backend, Spectrum(bases, mean), mean) for mean in means]
        return new, sum((x * x for x in rotated[1:]), rotated[0] * rotated[0])

    def _product_state(self, inner: KroneckerState) -> KroneckerState:
        """Return the state of ``kron(L, R) / t`` for the trace ``t`` of both."""
        backend = backend_of(inner.scale)
        left = mean_or_zero(backend, inner.input_factor.cov)
        root = backend.xp.sqrt(psd.trace(backend, left))
        root = backend.xp.where(root > 0, root, backend.xp.ones_like(root))
        first, second = (
            own._replace(cov=own.cov._replace(weight=own.cov.weight * root))
            for own in inner[:2]
        )
        return inner._replace(input_factor=first, output_factor=second)

    def _entries(self, backend: Backend, moments: Array) -> Array:
        entries: Array = backend.xp.sqrt(moments)
        return entries
