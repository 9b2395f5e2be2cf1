"""`TensorNormalTrainingFB`: the Kronecker product with the Fisher's partial traces."""

from dataclasses import dataclass

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.around.fitted import Fit, FittedProductFB
from kfac_core.fisher_blocks.around.state import FittedState
from kfac_core.fisher_blocks.case_gradients.gradients import CaseGradients
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.linalg import psd
from kfac_core.moving_average import Ema, MovingAverage, mean_or_zero
from kfac_core.typing import Array


@dataclass(frozen=True)
class TensorNormalTrainingFB(FittedProductFB):
    """TNT: ``F = kron(E[D D'], E[D' D]) / E[|D|^2]`` of case gradients ``D``.

    It is the covariance of the gradients if they are tensor-normal: normal, with a
    Kronecker product as covariance (Ren & Goldfarb, 2021). It has the trace and both
    partial traces of the Fisher, is positive semi-definite, and is the Fisher where
    that is a Kronecker product. It needs no K-FAC: positions and uses of a case count
    as they do in its gradient, and are not taken to be independent. Both statistics are
    sums, so that averages over batches are exact. It is a Kronecker product, and so
    never nearer to the Fisher of a batch than that of a `KroneckerOptimalFB`.

    Attributes:
        block: The block of the layer, such as a `FullyConnectedKFACBasicFB`, whose
            sides are dense or diagonal. Its damping and its averaging hold.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = TensorNormalTrainingFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [3.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).round(6)  # means of 4 * 1 and of 1 * 9
        array([[2. , 0. ],
               [0. , 4.5]])
    """

    def _fitted(
        self,
        backend: Backend,
        old: FittedState,
        kfac: KroneckerState,
        gradients: CaseGradients,
        ema: Ema,
    ) -> Fit:
        def folded(average: MovingAverage, sample: Array) -> MovingAverage:
            return moving_average.fold(
                backend, average, [sample], ema.decay, ema.weight
            )

        ones_of_g, ones_of_a = (
            backend.xp.ones_like(backend.xp.sum(own.total, axis=-1))
            if own.total.ndim == 2
            else backend.xp.ones_like(own.total)
            for own in (old.outputs, old.inputs)
        )
        of_a = gradients.inputs_moment(backend, old.inputs.total, ones_of_g)
        of_g = gradients.outputs_moment(backend, old.outputs.total, ones_of_a)
        inputs, outputs = folded(old.inputs, of_a), folded(old.outputs, of_g)
        return Fit(*self._of_statistics(backend, inputs, outputs), inputs, outputs)

    def _of_statistics(
        self, backend: Backend, inputs: MovingAverage, outputs: MovingAverage
    ) -> tuple[Array, Array]:
        a, g = (mean_or_zero(backend, own) for own in (inputs, outputs))
        # Both traces are one number, but for the identities that an average started as.
        root = backend.xp.sqrt(backend.xp.sqrt(psd.trace(backend, a)))
        root = root * backend.xp.sqrt(backend.xp.sqrt(psd.trace(backend, g)))
        root = backend.xp.where(root > 0, root, backend.xp.ones_like(root))
        return a / root, g / root
