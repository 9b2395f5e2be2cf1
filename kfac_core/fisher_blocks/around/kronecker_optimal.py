"""`KroneckerOptimalFB`: the Kronecker product nearest to the Fisher."""

from dataclasses import dataclass

from kfac_core.arguments.sizes import as_size
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.around.fitted import Fit, FittedProductFB
from kfac_core.fisher_blocks.around.state import FittedState
from kfac_core.fisher_blocks.case_gradients.gradients import CaseGradients
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.linalg.nearest_kronecker import nearest_product
from kfac_core.moving_average import Ema, mean_or_zero
from kfac_core.typing import Array


@dataclass(frozen=True)
class KroneckerOptimalFB(FittedProductFB):
    """The product ``kron(A, G)`` that is nearest to the Fisher of case gradients.

    It is nearest in the Frobenius norm (Van Loan & Pitsianis, 1993), and found by
    computing one side after the other; see `kfac_core.linalg.nearest_kronecker`. The
    first side is computed for K-FAC's ``G``. So, after any number of rounds, its
    distance to the Fisher of a batch is at most that of K-FAC, and of every other
    product with this ``G``; both sides are positive semi-definite. With enough rounds
    it is at most that of any Kronecker product, such as that of
    `TensorNormalTrainingFB`. EKFAC is none, and may be nearer.

    No Fisher is made: a round costs two second moments of each side. With several
    batches, those before the last are known by the product fitted to them: ``F`` is the
    weighted mean of the last product and of the Fisher of the batch. Positions and uses
    of a case count as they do in its gradient, and are not taken to be independent.
    So states do not `merge`: a product does not tell what it was fitted to.

    Attributes:
        block: The block of the layer, such as a `FullyConnectedKFACBasicFB`, whose
            sides are dense or diagonal. Its damping and its averaging hold.
        rounds: How often both sides are computed for a batch.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = KroneckerOptimalFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [3.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).round(6)  # means of 4 * 1 and of 1 * 9
        array([[2. , 0. ],
               [0. , 4.5]])
    """

    rounds: int = 5

    def __post_init__(self) -> None:
        """Check the number of rounds, too.

        Raises:
            ArgumentError: If it is not a positive integer.
        """
        super().__post_init__()
        object.__setattr__(self, "rounds", as_size(self.rounds, "rounds", self.label))

    def _fitted(
        self,
        backend: Backend,
        old: FittedState,
        kfac: KroneckerState,
        gradients: CaseGradients,
        ema: Ema,
    ) -> Fit:
        inputs, outputs = kfac.input_factor.cov, kfac.output_factor.cov
        before = [mean_or_zero(backend, own.cov) for own in old.block[:2]]
        # The shares of the last product and of the batch.
        weight = inputs.weight
        weight = backend.xp.where(weight > 0, weight, backend.xp.ones_like(weight))
        kept = old.inputs.weight * ema.decay / weight
        taken = ema.weight / weight

        def over_g(g: Array) -> Array:
            own = kept * backend.xp.sum(before[1] * g) * before[0]
            return own + taken * gradients.inputs_moment(backend, before[0], g)

        def over_a(a: Array) -> Array:
            own = kept * backend.xp.sum(before[0] * a) * before[1]
            return own + taken * gradients.outputs_moment(backend, before[1], a)

        a, g = nearest_product(backend, over_g, over_a, outputs.total, self.rounds)
        return Fit(a, g, inputs, outputs)
