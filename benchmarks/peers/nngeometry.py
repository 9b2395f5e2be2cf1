"""nngeometry: what the hooks of `PMatKFAC` call, and its division by the cases.

Its ``A`` of a convolution is a sum over locations.
"""

from typing import Any

import torch
from nngeometry.backend.torch_hooks.grads import FactoryMap
from nngeometry.layercollection import LayerCollection

from benchmarks.peers.layer import Layer, Peer
from benchmarks.peers.modules import module_of


def peer(layer: Layer, x: Any, g: Any) -> Peer:
    """Return its two factors of a layer's inputs and gradients.

    Args:
        layer: The layer.
        x: Its inputs.
        g: The gradients of the summed loss for its outputs.

    Returns:
        The peer.
    """
    module = module_of(layer)
    (own,) = LayerCollection.from_model(torch.nn.Sequential(module)).layers.values()
    factory, size = FactoryMap[type(own)], layer.inputs + 1

    def factors() -> tuple[Any, Any]:
        a, b = torch.zeros(size, size), torch.zeros(layer.outputs, layer.outputs)
        factory.kfac_gg(b, module, own, x, g)
        factory.kfac_xx(a, module, own, x, g)
        return a.div_(len(x)), b.div_(len(x))

    return Peer(factors, factors, (float(layer.locations), 1.0), channels_first=True)
