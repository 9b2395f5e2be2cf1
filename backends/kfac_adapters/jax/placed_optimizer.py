"""The core's optimiser at one of several places, each with a shard of the batch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.linearized import Linearized
from kfac_adapters.jax.named_axis import NamedAxis
from kfac_adapters.jax.places import folded
from kfac_adapters.jax.shared_inverses import inverted
from kfac_core.backend import Backend
from kfac_core.errors import UnsupportedError
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.estimator.sources import MatrixType
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.linearization import Linearization, NamedParams
from kfac_core.optimizer import KfacOptimizer
from kfac_core.typing import Array, Key, LayerDampings, Scalar


class Shard(Linearized):
    """A `kfac_core.linearization.ShardLinearization` of the cases of one place.

    Args:
        captured: What was captured of the function.
        params: Its parameters, as the user has them.
        inputs: Its other arguments, for the cases of this place.
        targets: As in `Linearized`.
        weights: As in `Linearized`.
        axis_names: Names of the axes over which the batch is mapped.
    """

    def __init__(
        self,
        captured: Captured,
        params: Any,
        inputs: Sequence[Any],
        targets: Any = None,
        weights: Any = None,
        *,
        axis_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            captured, params, inputs, targets, weights, axis_names=axis_names
        )
        self._names = axis_names

    @property
    def num_cases(self) -> int:
        """The number of cases at all places."""
        return self.batch_size * NamedAxis(self._names).size

    def mean_of_shards(self, numbers: Any) -> Any:
        """Return the mean over all places, which have as many cases each."""
        return jax.lax.pmean(numbers, self._names)


class PlacedEstimator:
    """An estimator whose statistics are those of all places.

    Args:
        estimator: A `kfac_core.FisherEstimator`.
        names: Names of the axes over which the batch is mapped.
        share: As ``share_inverses`` of `kfac_adapters.jax.Curvature`.

    Raises:
        UnsupportedError: If it is an estimator of another kind.
    """

    def __init__(self, estimator: object, names: tuple[str, ...], share: Any) -> None:
        if not isinstance(estimator, FisherEstimator):
            msg = (
                f"Kfac: the estimator is a {type(estimator).__name__}, whose layers"
                " have one inverse together; expected structure='block_diagonal' with"
                " axis_name or share_inverses, whose statistics are of single layers"
            )
            raise UnsupportedError(msg)
        self._alone, self._names, self._share = estimator, names, share

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
        """Fold the shards of all places into the statistics."""
        if not self._names:
            return self._alone.update_covs(
                state, linearization, ema_decay, ema_weight, key=key, noise=noise
            )
        given = key, self._names
        return folded(
            self._alone, state, linearization, ema_decay, *given, ema_weight, noise
        )

    def update_inverses(
        self,
        state: EstimatorState,
        damping: LayerDampings,
        *,
        layers: Collection[str] | None = None,
        tolerance: Scalar | None = None,
    ) -> EstimatorState:
        """Compute the inverses of some layers, at all places or each at one."""
        return inverted(
            self._alone, state, damping, self._share, self._names, layers, tolerance
        )

    def multiply(self, state: EstimatorState, vectors: NamedParams) -> dict[str, Array]:
        """Return the damped matrix times a vector."""
        return self._alone.multiply(state, vectors)

    def multiply_inverse(
        self, state: EstimatorState, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return the inverse of the damped matrix times a vector."""
        return self._alone.multiply_inverse(state, vectors)


@dataclass(frozen=True, kw_only=True)
class PlacedOptimizer(KfacOptimizer[Any]):
    """The core's optimiser, whose estimator is a `PlacedEstimator`.

    Attributes:
        names: Names of the axes over which the batch is mapped.
        share: As ``share_inverses`` of `kfac_adapters.jax.Curvature`.
    """

    names: tuple[str, ...]
    share: Any

    def __post_init__(self) -> None:
        """Check the options, and make the estimator.

        Raises:
            KfacError: What `kfac_core.KfacOptimizer` raises.
            UnsupportedError: If layers have one inverse together.
        """
        super().__post_init__()
        placed = PlacedEstimator(self.estimator, self.names, self.share)
        object.__setattr__(self, "estimator", placed)
