"""`SharedEstimator`: an estimator whose inverses several ranks share."""

from collections.abc import Collection, Mapping
from typing import Any

from kfac_core.backend import Backend
from kfac_core.collectives.inverses import inverted, multiplied
from kfac_core.collectives.teams import Teams
from kfac_core.errors import UnsupportedError
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.estimator.sources import MatrixType
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.linearization import Linearization, NamedParams
from kfac_core.typing import Array, Key, LayerDampings, Scalar


class SharedEstimator:
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
        if not isinstance(estimator, FisherEstimator):
            msg = (
                f"SharedEstimator: the estimator is a {type(estimator).__name__}, whose"
                " layers have one inverse together; expected a FisherEstimator, whose"
                " layers ranks can share"
            )
            raise UnsupportedError(msg)
        self._alone, self._teams = estimator, teams

    @property
    def layer_collection(self) -> LayerCollection:
        """The layers and losses."""
        return self._alone.layer_collection

    @property
    def layers(self) -> tuple[LayerRegistration, ...]:
        """The layers, each with its block."""
        return self._alone.layers

    @property
    def blocks(self) -> dict[str, FisherBlock[Any]]:
        """The block of each layer, by its name."""
        return self._alone.blocks

    @property
    def mat_type(self) -> MatrixType:
        """Name of the matrix that is estimated."""
        return self._alone.mat_type

    def init(self, params: NamedParams) -> EstimatorState:
        """Return the state before any data."""
        return self._alone.init(params)

    def check_state(self, state: EstimatorState) -> Backend:
        """Check that a state is one of these layers."""
        return self._alone.check_state(state)

    def check_vector(self, vectors: NamedParams, argument: str) -> Backend:
        """Check that a vector has the names and shapes of the parameters."""
        return self._alone.check_vector(vectors, argument)

    def update_covs(
        self,
        state: EstimatorState,
        linearization: Linearization,
        ema_decay: Scalar,
        ema_weight: Any = None,
        *,
        key: Key | None = None,
        noise: Mapping[str, Array] | None = None,
    ) -> EstimatorState:
        """Fold the shard of this rank into the statistics, for `sharing.summed`."""
        return self._alone.update_covs(
            state, linearization, ema_decay, ema_weight, key=key, noise=noise
        )

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
