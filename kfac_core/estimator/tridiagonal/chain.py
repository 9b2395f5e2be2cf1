"""Chains of layers: each takes what the one before gives, and is used once a case."""

from collections.abc import Sequence
from itertools import pairwise

from kfac_core.errors import UnsupportedError
from kfac_core.estimator.layer_data import LayerGiven
from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.layer_collection import LayerRegistration


def check_chain(layers: Sequence[LayerRegistration], label: str) -> None:
    """Check that layers are fully connected, each as wide as the one before.

    Args:
        layers: The layers, in the order in which they were registered.
        label: Who needs a chain, for the message.

    Raises:
        UnsupportedError: If they are no chain; the message names the layer.
    """
    for layer in layers:
        if fault := _fault(layer):
            msg = (
                f"{label}: layer_collection: {layer.name} {fault}; it takes chains of"
                " fully connected layers, with dense factors whose damping is split,"
                " each used once a case. Use FisherEstimator for other layers"
            )
            raise UnsupportedError(msg)
    for layer, following in pairwise(layers):
        given, taken = layer.block.output_size, following.block.input_size  # type: ignore[attr-defined]
        if given != taken:
            msg = (
                f"{label}: layer_collection: {following.name} takes {taken} inputs, but"
                f" {layer.name}, registered before it, gives {given} outputs; register"
                " the layers of a chain in the order in which the network uses them"
            )
            raise UnsupportedError(msg)
        if layer.block.zero_debias != following.block.zero_debias:
            msg = (
                f"{label}: layer_collection: {layer.name} has zero_debias"
                f" {layer.block.zero_debias}, and {following.name} has not; all layers"
                " of a chain must be averaged alike"
            )
            raise UnsupportedError(msg)


def check_unweighted(
    layers: Sequence[LayerRegistration], given: dict[str, LayerGiven], label: str
) -> None:
    """Check that every case of a batch reaches every layer, and counts one.

    Raises:
        UnsupportedError: If a layer was given weights, or fewer cases.
    """
    for layer in layers:
        if options := given[layer.name].options:
            msg = (
                f"{label}: linearization: the rows of {layer.name} have"
                f" {' and '.join(options)} of their own, by a mask or because not all"
                " cases reach it; every case must count one at every layer of a chain."
                " Use FisherEstimator, or leave such cases out of the batch"
            )
            raise UnsupportedError(msg)


def _fault(layer: LayerRegistration) -> str:
    """Return what is wrong with a layer of a chain; empty if nothing is."""
    block = layer.block
    if type(block) is not FullyConnectedKFACBasicFB:
        return f"has a {type(block).__name__}"
    if len(layer.sites) != 1:
        return f"has {len(layer.sites)} sites"
    if not all(isinstance(factor.form, Dense) for factor in block._sides):
        return "has a factor that is not dense"
    if block.damping_type == "exact":
        return "has damping_type 'exact'"
    return ""
