"""The core's optimiser at one of several places, each with a shard of the batch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from kfac_adapters.jax.linearized import Linearized
from kfac_adapters.jax.named_axis import NamedAxis
from kfac_adapters.jax.places import folded
from kfac_adapters.jax.shared_inverses import inverted
from kfac_core.collectives.around_estimator import AroundEstimator
from kfac_core.estimator import EstimatorState
from kfac_core.linearization import Linearization
from kfac_core.optimizer import KfacOptimizer
from kfac_core.typing import Array, Key, LayerDampings, Scalar


class Shard(Linearized):
    """A `kfac_core.linearization.ShardLinearization` of the cases of one place."""

    @property
    def num_cases(self) -> int:
        """The number of cases at all places."""
        return self.batch_size * NamedAxis(self.axis_names).size

    def mean_of_shards(self, numbers: Any) -> Any:
        """Return the mean over all places, which have as many cases each."""
        return jax.lax.pmean(numbers, self.axis_names)


class PlacedEstimator(AroundEstimator):
    """An estimator whose statistics are those of all places.

    Args:
        estimator: A `kfac_core.FisherEstimator`.
        names: Names of the axes over which the batch is mapped.
        share: As ``share_inverses`` of `kfac_adapters.jax.Curvature`.

    Raises:
        UnsupportedError: If it is an estimator of another kind.
    """

    def __init__(self, estimator: object, names: tuple[str, ...], share: Any) -> None:
        super().__init__(estimator, "Kfac, with axis_name or share_inverses")
        self._names, self._share = names, share

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
