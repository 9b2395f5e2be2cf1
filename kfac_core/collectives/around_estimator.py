"""`AroundEstimator`: an estimator that computes some things in another way."""

from collections.abc import Mapping
from typing import Any

from kfac_core.backend import Backend
from kfac_core.errors import UnsupportedError
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.estimator.sources import MatrixType
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.linearization import Linearization, NamedParams
from kfac_core.typing import Array, Key, Scalar


class AroundEstimator:
    """What takes the place of a `kfac_core.FisherEstimator` in an optimiser.

    It does all that the estimator does; subclasses replace what places share.

    Args:
        estimator: The estimator.
        label: Name of what wants it, for the message.

    Raises:
        UnsupportedError: If it is an estimator of another kind.
    """

    def __init__(self, estimator: object, label: str) -> None:
        if not isinstance(estimator, FisherEstimator):
            msg = (
                f"{label}: the estimator is a {type(estimator).__name__}, whose layers"
                " have one inverse together; expected a FisherEstimator, whose layers"
                " can be shared: structure='block_diagonal'"
            )
            raise UnsupportedError(msg)
        self._alone = estimator

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
        """Fold a batch into the statistics."""
        return self._alone.update_covs(
            state, linearization, ema_decay, ema_weight, key=key, noise=noise
        )

    def multiply(self, state: EstimatorState, vectors: NamedParams) -> dict[str, Array]:
        """Return the damped matrix times a vector."""
        return self._alone.multiply(state, vectors)

    def multiply_inverse(
        self, state: EstimatorState, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return the inverse of the damped matrix times a vector."""
        return self._alone.multiply_inverse(state, vectors)
