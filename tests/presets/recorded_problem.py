"""The layers, data and gradients of which other libraries' factors are recorded.

The model is one layer, then nothing: a linear one, one at seven tokens, or a
convolution of seven locations. Its loss is the mean squared error over all numbers.
"""

import numpy as np
import torch

N, T, OUT = 6, 7, 3
DAMPING = 0.01
KINDS = ("linear", "tokens", "images")


def layer_and_data(kind):
    """A layer with its bias, inputs and targets, the same at every run."""
    rng = np.random.default_rng(KINDS.index(kind))

    def draw(*shape):
        return torch.from_numpy(np.round(rng.normal(size=shape), 3))

    if kind == "images":
        layer = torch.nn.Conv2d(2, OUT, (2, 1))
        x, weights = draw(N, 2, T + 1, 1), draw(OUT, 2, 2, 1)
    else:
        layer = torch.nn.Linear(4, OUT)
        x = draw(N, 4) if kind == "linear" else draw(N, T, 4)
        weights = draw(OUT, 4)
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(draw(OUT))
    y = draw(N, OUT if kind == "linear" else T * OUT)
    return layer, x, y


def model_of(layer):
    return torch.nn.Sequential(layer, torch.nn.Flatten())


def gradients(kind):
    """The gradients of the mean loss for the layer's outputs, ``[N, T, OUT]``."""
    layer, x, y = layer_and_data(kind)
    out = layer(x)
    out.retain_grad()
    torch.nn.functional.mse_loss(out.flatten(1), y).backward()
    g = out.grad if kind != "images" else out.grad.permute(0, 2, 3, 1)
    return g.reshape(N, -1, OUT)


def record_data():
    """Return inputs and gradients of all kinds, which every library is given."""
    data = {}
    for kind in KINDS:
        _, x, _ = layer_and_data(kind)
        last = x.permute(0, 2, 3, 1) if kind == "images" else x
        data[kind] = {"x": last.tolist(), "g": gradients(kind).tolist()}
    return data
