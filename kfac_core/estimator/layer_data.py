"""The data of each registered layer, in the form that its block takes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import backend_for, check_has_cases
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import LayerRegistration
from kfac_core.layer_collection.parts import Part, with_parts
from kfac_core.linearization import Linearization, NamedParams
from kfac_core.typing import Array, Pair, Scalar, Uses


class LayerGiven(NamedTuple):
    """What the block of a layer is given of a batch.

    Attributes:
        data: What `layer_data` or `parameter_data` returns.
        options: What `kfac_core.estimator.counting.counting` returns.
    """

    data: tuple[Any, ...]
    options: dict[str, Any]


def layer_data(
    layer: LayerRegistration,
    linearization: Linearization,
    gradients: Sequence[Mapping[str, Array]],
) -> tuple[Any, ...]:
    """Return inputs and output gradients of a layer with sites.

    Args:
        layer: The layer.
        linearization: The model at its parameters and a batch.
        gradients: For each source, the gradients of all sites.

    Returns:
        ``(inputs, outputs_grads)``: towers, and sources of towers; `Uses` where a tower
        has several sites. Only ``outputs_grads``, if the block takes no inputs; only
        ``inputs``, if it takes no gradients.

    Raises:
        ArgumentError: If the linearization does not know a site.
    """
    inputs: tuple[Any, ...] = ()
    if layer.block.takes_inputs:
        inputs = (_by_tower(layer, linearization.layer_inputs, "layer_inputs"),)
    if not layer.block.takes_gradients:
        return inputs
    return *inputs, tuple(
        _by_tower(layer, source, "output_gradients") for source in gradients
    )


def parameter_data(
    layer: LayerRegistration,
    linearization: Linearization,
    gradients: Sequence[NamedParams],
    cut: Sequence[Part] = (),
) -> tuple[Any, ...]:
    """Return the gradients of a layer without sites, and the number of cases.

    Args:
        layer: The layer.
        linearization: The model at its parameters and a batch.
        gradients: For each source, the gradients of parameters.
        cut: The parts of parameters.
    """
    own = [part for part in cut if part.name in layer.params]
    known = [with_parts(own, source) for source in gradients]
    sources = tuple(tuple(source[name] for name in layer.params) for source in known)
    return sources, linearization.batch_size


def weight_of(
    weights: Scalar | Mapping[str, Scalar | None] | None, layer: str
) -> Scalar | None:
    """Return the weight of a batch for one layer.

    Raises:
        ArgumentError: If the weights are by layer, and this layer has none.
    """
    if not isinstance(weights, Mapping):
        return weights
    if layer not in weights:
        msg = f"{layer}: ema_weight has no number for it, only for {list(weights)}"
        raise ArgumentError(msg)
    return weights[layer]


def _by_tower(
    layer: LayerRegistration, arrays: Mapping[str, Array], what: str
) -> tuple[Array | Uses, ...]:
    missing = [site for site in layer.sites if site not in arrays]
    if missing:
        msg = (
            f"{layer.name}: the linearization has no {what} for the sites {missing},"
            f" only for {list(arrays)}"
        )
        raise ArgumentError(msg)
    for site in layer.sites:
        each: Any = arrays[site]
        parts = (each.first, each.second) if isinstance(each, Pair) else (each,)
        argument = f"{what} of the site {site!r}"
        backend_for(layer.name, argument, *parts)
        for part in parts:
            check_has_cases(part, argument, layer.name)
    return tuple(
        Uses(tuple(arrays[site] for site in tower))
        if len(tower) > 1
        else arrays[tower[0]]
        for tower in layer.towers
    )
