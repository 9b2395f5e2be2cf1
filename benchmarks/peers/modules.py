"""The PyTorch module of a layer."""

import torch

from benchmarks.peers.layer import Layer


def module_of(layer: Layer) -> torch.nn.Module:
    """Return a module of the layer's sizes, with bias."""
    if layer.convolution is None:
        return torch.nn.Linear(layer.inputs, layer.outputs)
    kernel = layer.convolution.kernel
    return torch.nn.Conv2d(
        layer.shape[-1],
        layer.outputs,
        kernel,
        layer.convolution.stride,
        padding=kernel // 2,
    )
