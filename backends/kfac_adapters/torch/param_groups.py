"""Parameter groups, by the names of the parameters, and what of them must agree."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from kfac_adapters.torch.capture import Capture
from kfac_adapters.torch.tracking import Tracker
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.layer_collection.parts import owners


def groups_by_name(
    params: Mapping[str, torch.Tensor], groups: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return for each parameter that is optimised its group.

    Args:
        params: The parameters, by name.
        groups: The groups.

    Returns:
        The groups, by name; those of parameters in no group are left out.
    """
    of = {id(param): group for group in groups for param in group["params"]}
    return {name: of[id(param)] for name, param in params.items() if id(param) in of}


def dampings_of(
    tracker: Tracker, groups: Mapping[str, Mapping[str, Any]], default: float
) -> dict[str, float]:
    """Return the damping of each layer.

    Args:
        tracker: It has the layers.
        groups: For each parameter its group.
        default: Damping of layers whose parameters are in no group.

    Returns:
        The dampings, by the name of the layer.

    Raises:
        ArgumentError: If the groups of a layer's parameters have several.
    """
    dampings, estimator = {}, tracker.estimator
    made = {own.name: own.parts for own in tracker.capture.made}
    for layer in estimator.layers:
        known = owners(estimator.layer_collection.parts, layer.params)
        whole = [name for own in known for name in made.get(own, (own,))]
        found = {groups[name]["damping"] for name in whole if name in groups}
        if len(found) > 1:
            msg = (
                f"KFAC: the parameters {list(layer.params)} of one layer have the"
                f" dampings {sorted(found)}; put them into one group"
            )
            raise ArgumentError(msg)
        dampings[layer.name] = found.pop() if found else default
    return dampings


def check_known(params: Iterable[Any], model: torch.nn.Module) -> None:
    """Check that parameters are those of a model.

    Args:
        params: Parameters, or pairs of a name and a parameter.
        model: The model.

    Raises:
        ArgumentError: If one is not.
    """
    known = {id(param) for param in model.parameters()}
    for entry in params:
        param = entry[1] if isinstance(entry, tuple) else entry
        if id(param) not in known:
            shape = tuple(getattr(param, "shape", ()))
            msg = (
                f"KFAC: a parameter of shape {shape} is none of the model's, expected"
                " those of the model that it was made with"
            )
            raise ArgumentError(msg)


def check_whole(
    names: tuple[str, ...], groups: Mapping[str, Mapping[str, Any]], capture: Capture
) -> None:
    """Check that a step of one length is possible: what is one number is so for all.

    Args:
        names: Names of the parameters in layers.
        groups: Their groups.
        capture: The model.

    Raises:
        ArgumentError: If a parameter has no group, or groups differ in more than the
            damping, or a gradient is taken as it is.
        UnsupportedError: If the model makes a weight of several parameters.
    """
    if capture.made:
        listed = [" and ".join(own.parts) for own in capture.made]
        msg = (
            "KFAC: momentum_type and adapt_damping do without parametrizations, but the"
            f" model makes weights of {', '.join(listed)}; leave these options out, or"
            " take the parametrizations off"
        )
        raise UnsupportedError(msg)
    label = "KFAC: momentum_type and adapt_damping, which look at all parameters as one"
    missing = [name for name in names if name not in groups]
    if missing:
        msg = f"{label}, need all of them in groups, but {missing} are in none"
        raise ArgumentError(msg)
    for key in ("lr", "momentum", "weight_decay"):
        found = sorted({groups[name][key] for name in names})
        if len(found) > 1:
            msg = f"{label}, take one {key}, but that of the groups is {found}"
            raise ArgumentError(msg)
    if capture.left and capture.policy == "identity":
        msg = (
            f"{label}, have no curvature for {list(capture.left)}; take"
            " unclaimed='diagonal'"
        )
        raise ArgumentError(msg)
