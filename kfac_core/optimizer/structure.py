"""The estimator of an optimiser: layers by themselves, or each with the next."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Union

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.estimator import FisherEstimator
from kfac_core.estimator.sources import MatrixType
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.linearization import Linearization, NamedParams
from kfac_core.optimizer.options import LABEL, KfacOptions
from kfac_core.typing import Array, Key, LayerDampings, Scalar

if TYPE_CHECKING:
    from kfac_core.estimator import BlockTridiagonalEstimator


class Estimator(Protocol):
    """What an optimiser needs of an estimator; states are those of the estimator."""

    @property
    def layer_collection(self) -> LayerCollection:
        """The layers and losses."""

    @property
    def layers(self) -> tuple[LayerRegistration, ...]:
        """The layers, each with its block."""

    @property
    def blocks(self) -> dict[str, FisherBlock[Any]]:
        """The block of each layer, by its name."""

    @property
    def mat_type(self) -> MatrixType:
        """Name of the matrix that is estimated."""

    def init(self, params: NamedParams) -> Any:
        """Return the state before any data."""

    def check_state(self, state: Any) -> Backend:
        """Check that a state is one of these layers."""

    def check_vector(self, vectors: NamedParams, argument: str) -> Backend:
        """Check that a vector has the names and shapes of the parameters."""

    def update_covs(
        self,
        state: Any,
        linearization: Linearization,
        ema_decay: Scalar,
        ema_weight: Any = None,
        *,
        key: Key | None = None,
        noise: Mapping[str, Array] | None = None,
    ) -> Any:
        """Fold a batch into the statistics."""

    def update_inverses(self, state: Any, damping: LayerDampings) -> Any:
        """Compute all that is registered from the current statistics."""

    def multiply(self, state: Any, vectors: NamedParams) -> dict[str, Array]:
        """Return the damped matrix times a vector."""

    def multiply_inverse(self, state: Any, vectors: NamedParams) -> dict[str, Array]:
        """Return the inverse of the damped matrix times a vector."""


def estimator_of(
    options: KfacOptions, layer_collection: LayerCollection
) -> Union[FisherEstimator, "BlockTridiagonalEstimator"]:
    """Return the estimator that options ask for.

    Args:
        options: The options.
        layer_collection: The layers and losses.

    Returns:
        The estimator.

    Raises:
        ArgumentError: If the inverses of single layers are asked for, where layers have
            one inverse together.
        KfacError: What the estimator raises.
    """
    mode, samples = options.estimation_mode, options.num_samples
    if options.structure == "block_diagonal":
        share = options.statistics_share
        return FisherEstimator(layer_collection, mode, samples, statistics_share=share)
    for name, off in (
        ("inverse_tolerance", None),
        ("stagger_inverses", False),
        ("statistics_share", 1.0),
    ):
        if (value := getattr(options, name)) != off:
            msg = (
                f"{LABEL}: {name} is {value}, expected {off} with the structure"
                f" {options.structure!r}, whose layers have one inverse together"
            )
            raise ArgumentError(msg)
    from kfac_core.estimator import BlockTridiagonalEstimator  # as late as it is asked

    return BlockTridiagonalEstimator(layer_collection, mode, samples)


def with_inverses_of(
    options: KfacOptions,
    estimator: Estimator,
    state: Any,
    damping: LayerDampings,
    names: tuple[str, ...],
) -> Any:
    """Return an estimator's state with the inverses of some layers.

    Args:
        options: The options of the optimiser.
        estimator: Its estimator.
        state: State of the estimator.
        damping: The damping, or one for each layer.
        names: Names of the layers; all of them, where they have one inverse together.

    Returns:
        The new state.
    """
    if options.structure == "block_diagonal":
        by_layer: Any = estimator  # one whose layers have inverses of their own
        tolerance = options.inverse_tolerance
        return by_layer.update_inverses(
            state, damping, layers=names, tolerance=tolerance
        )
    return estimator.update_inverses(state, damping)
