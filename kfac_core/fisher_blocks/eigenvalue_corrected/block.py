"""`EigenvalueCorrectedFB`: EKFAC, for every layer that has a Kronecker product."""

from dataclasses import dataclass

from kfac_core.backend import Backend
from kfac_core.fisher_blocks.case_gradients.gradients import CaseGradients
from kfac_core.fisher_blocks.eigenvalue_corrected.base import InEigenbasisFB
from kfac_core.fisher_blocks.eigenvalue_corrected.state import CorrectedState
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.moving_average import Ema
from kfac_core.registry import backend_of
from kfac_core.state import is_known_false
from kfac_core.typing import Array


@dataclass(frozen=True)
class EigenvalueCorrectedFB(InEigenbasisFB):
    """EKFAC: the eigenbasis of a Kronecker product, with eigenvalues of its own.

    ``F = Q diag(s) Q'``, where ``Q`` are the eigenvectors of ``kron(A, G)``, and
    ``s_ij`` is the mean square of the entry ``(i, j)`` of a case's gradient in that
    basis (George et al., 2018). K-FAC's eigenvalues are products of means; these are
    means of products. Among all matrices that are diagonal in the basis, this is the
    one nearest to the Fisher in the Frobenius norm, so that its error on a batch is
    never above that of K-FAC with the same eigenbasis. Positions and uses of a case
    count as they do in its gradient, and are not taken to be independent.

    The damping is added to the matrix itself. `update_inverses` computes the basis,
    which is what costs; `update_covs` folds a batch into the factors, and into ``s`` as
    soon as there is a basis. Powers take ``s`` as it is when they are called, and basis
    and damping of the last `update_inverses`. A new basis takes the old matrix along:
    ``s`` becomes its diagonal in the new basis. Until a batch follows the first basis,
    ``s`` are K-FAC's eigenvalues.

    Corrected eigenvalues add up in one basis alone: `merge` takes states of the same
    `update_inverses`, or of none, and keeps what that computed.

    Attributes:
        block: The block of the layer, such as a `FullyConnectedKFACBasicFB`. Its
            averaging and precision hold for both; how it damps, and what it serves,
            does not matter here.
        basis: ``"eigh"``: each `update_inverses` computes the eigenvectors anew;
            ``"qr"``: it takes a step from the last ones, as `SoapFB` does.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = EigenvalueCorrectedFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [3.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=1.0)
        >>> state = block.update_inverses(state, damping=0.5)
        >>> block.full_fisher_block(state).diagonal()  # K-FAC: means of 2, 0.5 times 5
        array([10. ,  2.5])
        >>> state = block.update_covs(state, x, g, ema_decay=1.0)
        >>> block.full_fisher_block(state).diagonal()  # means of 4 * 1 and of 1 * 9
        array([2. , 4.5])
        >>> block.multiply_inverse(state, np.asarray([[5.0], [5.0]]))
        array([[2.],
               [1.]])
    """

    def full_fisher_block(self, state: CorrectedState) -> Array:
        """Return ``Q diag(s) Q'``, dense and undamped.

        Without a basis it is the Kronecker product of the statistics.
        """
        inner = self._own(state).block
        if is_known_false(backend_of(inner.scale), inner.input_factor.computed):
            return self._product.full_fisher_block(inner)
        return super().full_fisher_block(state)

    def _of_batch(
        self,
        backend: Backend,
        old: KroneckerState,
        kfac: KroneckerState,
        gradients: CaseGradients,
        ema: Ema,
        bases: tuple[Eigenbasis, Eigenbasis] | None,
    ) -> tuple[KroneckerState, Array | None]:
        return kfac, None if bases is None else gradients.mean_squares(backend, bases)
