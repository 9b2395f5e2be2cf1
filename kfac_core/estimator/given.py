"""Checks of the arguments of an estimator's methods, by the names of its layers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kfac_core.arguments.arrays import backend_for
from kfac_core.arguments.random_keys import check_key
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, StateError
from kfac_core.estimator.sources import LABEL
from kfac_core.estimator.state import EstimatorState
from kfac_core.linalg.named import as_named
from kfac_core.linearization import Linearization
from kfac_core.loss_functions.positions import input_arrays
from kfac_core.registry import backend_of
from kfac_core.spec.signature import restored_bare
from kfac_core.typing import Key, LayerDampings, Scalar


def backend_of_state(state: object, layers: Sequence[str]) -> Backend:
    """Return the backend of a state, which must have the given layers.

    Args:
        state: What the user gave.
        layers: Names of all layers.

    Returns:
        The backend.

    Raises:
        BackendError: If the number of cases is not an array.
        StateError: If `state` is not a state, or belongs to other layers.
    """
    if isinstance(state, (dict, list)):
        msg = f"{LABEL}: {restored_bare(state)}"
        raise StateError(msg)
    blocks: Any = getattr(state, "blocks", None)
    if not isinstance(state, EstimatorState) or not isinstance(blocks, Mapping):
        msg = (
            f"{LABEL}: state is a {type(state).__name__}, expected an EstimatorState:"
            " use the state that init returned"
        )
        raise StateError(msg)
    if blocks.keys() != set(layers):
        msg = (
            f"{LABEL}: the state has the layers {list(blocks)}, expected"
            f" {list(layers)}; it was made by another estimator: use init of this one"
        )
        raise StateError(msg)
    return backend_for(LABEL, "state", state.cases)


def check_unused(key: Key | None, noise: object, linearization: Linearization) -> None:
    """Check a key and noise that nothing is drawn from or taken of.

    Raises:
        ArgumentError: If the key is none of the library, or the noise no mapping.
        BackendError: If the noise for a site is no array.
    """
    if key is not None:
        like = input_arrays(next(iter(linearization.loss_inputs.values())))[0]
        check_key(backend_of(like), key, like, LABEL)
    if noise is not None:
        for site, numbers in as_named(noise, "noise", LABEL).items():
            backend_for(LABEL, f"noise of {site!r}", numbers)


def known_names(given: object, layers: Sequence[str], argument: str) -> list[str]:
    """Return given names, which must be names of layers.

    Args:
        given: What the user gave.
        layers: Names of all layers.
        argument: Name of the argument, for the message.

    Returns:
        The names.

    Raises:
        ArgumentError: If a name is unknown, or `given` is not a collection.
    """
    if isinstance(given, str) or not isinstance(given, Collection):
        msg = (
            f"{LABEL}: {argument} is {given!r}, expected a collection of names of"
            f" layers, some of {list(layers)}"
        )
        raise ArgumentError(msg)
    unknown = [name for name in given if name not in layers]
    if unknown:
        msg = (
            f"{LABEL}: {argument} has no layers named {unknown}, expected some of"
            f" {list(layers)}"
        )
        raise ArgumentError(msg)
    return list(given)


def dampings_of(
    damping: LayerDampings, chosen: Collection[str], layers: Sequence[str]
) -> dict[str, Scalar]:
    """Return the damping of each of some layers.

    Args:
        damping: One damping for all layers, or a mapping from their names.
        chosen: Names of the layers that need one.
        layers: Names of all layers.

    Returns:
        The dampings as given; the blocks check them.

    Raises:
        ArgumentError: If a name is unknown or missing.
    """
    if not isinstance(damping, Mapping):
        return dict.fromkeys(chosen, damping)
    known_names(damping, layers, "damping")
    missing = [name for name in chosen if name not in damping]
    if missing:
        msg = f"{LABEL}: no damping for the layers {missing}, got {list(damping)}"
        raise ArgumentError(msg)
    return {name: damping[name] for name in chosen}
