"""`SharedEstimator`: an estimator whose inverses several ranks share."""

from collections.abc import Collection

from kfac_core.collectives.around_estimator import AroundEstimator
from kfac_core.collectives.inverses import inverted, multiplied
from kfac_core.collectives.teams import Teams
from kfac_core.errors import UnsupportedError
from kfac_core.estimator import EstimatorState
from kfac_core.linearization import NamedParams
from kfac_core.typing import Array, LayerDampings, Scalar


class SharedEstimator(AroundEstimator):
    """An estimator whose inverses, and products with them, are those of several ranks.

    It takes the place of a `kfac_core.FisherEstimator` in an optimiser. The ranks call
    the same methods in the same order. What it computes has the same bits on all.

    Args:
        estimator: A `kfac_core.FisherEstimator`, the same on all ranks.
        teams: The ranks.

    Raises:
        UnsupportedError: If it is an estimator of another kind.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> from kfac_core.collectives import SharedEstimator, SingleProcess, teams_of
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(2, 1, has_bias=False),)))
        >>> loss = kc.losses.NormalMeanNegativeLogProbLoss()
        >>> alone = kc.FisherEstimator(model.layer_collection(loss), "exact")
        >>> shared = SharedEstimator(alone, teams_of(SingleProcess(), 1.0))
        >>> params = {"dense_0/weights": np.asarray([[1.0], [2.0]])}
        >>> given = model.linearize(params, Batch(np.eye(2)))
        >>> state = shared.update_covs(shared.init(params), given, ema_decay=0.9)
        >>> state = shared.update_inverses(state, damping=0.5)
        >>> shared.multiply_inverse(state, params)["dense_0/weights"].round(6)
        array([[0.343146],
               [0.686292]])
    """

    def __init__(self, estimator: object, teams: Teams) -> None:
        super().__init__(estimator, "SharedEstimator")
        self._teams = teams

    def update_inverses(
        self,
        state: EstimatorState,
        damping: LayerDampings,
        *,
        layers: Collection[str] | None = None,
        tolerance: Scalar | None = None,
    ) -> EstimatorState:
        """Compute the inverses of all layers: each rank some; see `inverses.inverted`.

        Returns:
            The new state.

        Raises:
            UnsupportedError: If these are not all layers.
            KfacError: On all ranks, if one cannot compute an inverse.
        """
        if layers is not None and set(layers) != set(self.blocks):
            msg = (
                f"SharedEstimator: layers are {sorted(layers)}, expected all of"
                f" {sorted(self.blocks)}: ranks share the inverses of all layers"
            )
            raise UnsupportedError(msg)
        return inverted(self._alone, state, damping, self._teams, tolerance)

    def multiply(self, state: EstimatorState, vectors: NamedParams) -> dict[str, Array]:
        """Return the damped matrix times a vector, the same on all ranks."""
        return multiplied(self._alone, state, vectors, self._teams, inverse=False)

    def multiply_inverse(
        self, state: EstimatorState, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return the inverse of the damped matrix times a vector."""
        return multiplied(self._alone, state, vectors, self._teams)
