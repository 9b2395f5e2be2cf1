"""Models of the reference in NumPy, and of PyTorch, with the same weights and data."""

import numpy as np
import torch
from torch import nn

from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.reference import (
    Batch,
    Conv2D,
    Dense,
    Flatten,
    Sequential,
    SequentialModel,
    Tanh,
)

LOSS = CategoricalLogitsNegativeLogProbLoss()


class Channels(nn.Module):
    """Images of PyTorch as rows of the reference, which has the channels last."""

    def forward(self, x):
        return x.movedim(1, -1).flatten(1)


def _mlp():
    layers = (Dense(6, 8), Tanh(), Dense(8, 3))
    return layers, nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)


def _cnn():
    layers = (Conv2D((3, 3, 2, 4)), Tanh(), Flatten(), Dense(4 * 20, 3))
    conv = nn.Conv2d(2, 4, 3, padding=1)
    module = nn.Sequential(conv, nn.Tanh(), Channels(), nn.Linear(4 * 20, 3))
    return layers, module, (5, 4, 2)


MODELS = {"mlp": _mlp, "cnn": _cnn}


class Twins:
    """A model in both libraries.

    Attributes:
        model: That of the reference.
        params: Its parameters.
        module: That of PyTorch.
    """

    def __init__(self, name, seed=0):
        layers, module, self._shape = MODELS[name]()
        self._rng = np.random.default_rng(seed)
        self.model = SequentialModel(Sequential(layers))
        self.module = module.double()
        self.params = self.model.init(self._rng, like=np.zeros((1, *self._shape)))
        arrays = self.of_torch(self.params)
        with torch.no_grad():
            for param, array in zip(module.parameters(), arrays, strict=True):
                param.copy_(torch.as_tensor(array))

    @staticmethod
    def of_torch(named):
        """Arrays of the reference with the axes that PyTorch has."""
        moves = {2: (1, 0), 4: (3, 2, 0, 1), 1: (0,)}
        return [np.transpose(x, moves[x.ndim]) for x in named.values()]

    def batch(self, cases=16):
        """The next batch, in both."""
        x = self._rng.normal(size=(cases, *self._shape))
        y = self._rng.integers(0, 3, size=cases)
        images = np.moveaxis(x, -1, 1) if x.ndim == 4 else x
        return Batch(x, y), torch.as_tensor(images.copy()), torch.as_tensor(y)

    def collection(self):
        return self.model.layer_collection(LOSS)
