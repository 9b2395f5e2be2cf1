"""`EstimatorState`: the states of all blocks, updated together or not at all."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class EstimatorState(NamedTuple):
    """State of a `FisherEstimator`.

    Attributes:
        blocks: The state of each layer's block, by the layer's name.
        cases: 0-d integer, the number of cases seen by `update_covs`.

    Example:
        >>> import numpy as np
        >>> from kfac_core.estimator import FisherEstimator
        >>> from kfac_core.layer_collection import LayerCollection
        >>> params = {"w": np.zeros((3, 2))}
        >>> collection = LayerCollection.of(params)
        >>> collection = collection.register_fully_connected("w", site="head")
        >>> collection = collection.register_softmax_cross_entropy_loss("logits")
        >>> state = FisherEstimator(collection).init(params)
        >>> list(state.blocks), int(state.cases)
        (['w'], 0)
        >>> bool(state.ok), bool(state.flag("derived_ok", ["w"]))
        (True, True)
    """

    blocks: dict[str, Any]
    cases: Array

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return _all([state.ok for state in self.blocks.values()])

    def flag(self, name: str, layers: Sequence[str] | None = None) -> Array:
        """Return whether the last update of one kind was taken, 0-d.

        Args:
            name: ``"cov_ok"`` for the statistics, or ``"derived_ok"`` for the inverses.
            layers: Names of the layers to ask, at least one; None: all.

        Returns:
            A boolean: under a trace, False if one of the layers refused the update.

        Raises:
            ArgumentError: If there is no such flag or layer, or no layer to ask.
        """
        given: object = name
        if not isinstance(given, str) or given not in ("cov_ok", "derived_ok"):
            msg = (
                f"EstimatorState: name is {name!r}, expected 'cov_ok' (statistics) or"
                " 'derived_ok' (inverses)"
            )
            raise ArgumentError(msg)
        if layers is not None:
            _check_layers(layers, list(self.blocks))
        chosen = self.blocks if layers is None else layers
        return _all([self.blocks[layer].flag(name) for layer in chosen])


def _check_layers(layers: object, known: list[str]) -> None:
    """Check that each name is a layer's, and that there is at least one."""
    is_some = isinstance(layers, Collection) and not isinstance(layers, str)
    if not is_some or not layers or any(name not in known for name in layers):  # type: ignore[attr-defined]
        msg = (
            f"EstimatorState: layers is {layers!r}, expected a collection of names of"
            f" layers, some of {known}"
        )
        raise ArgumentError(msg)


def whole(
    backend: Backend,
    new: EstimatorState,
    old: EstimatorState,
    flag: str,
    layers: Sequence[str],
) -> EstimatorState:
    """Return `new`, or under a trace `old` if any layer refused its update.

    Args:
        backend: Backend of the states.
        new: The state after an update.
        old: The state before it.
        flag: As in `EstimatorState.flag`.
        layers: Names of the layers that were to be updated.

    Returns:
        The state; all layers that were to be updated have one common flag.
    """
    if not any(backend.is_traced(new.blocks[layer].flag(flag)) for layer in layers):
        return new
    ok = new.flag(flag, layers)
    chosen = tree.where(backend, ok, new, old)
    blocks = dict(chosen.blocks)
    for layer in layers:
        # Each layer has a flag of its own: no array stands in two places of a state.
        blocks[layer] = blocks[layer].with_flag(flag, ok & ok)
    return chosen._replace(blocks=blocks)


def _all(flags: Sequence[Array]) -> Array:
    first, *others = flags
    for flag in others:
        first = first & flag
    return first
