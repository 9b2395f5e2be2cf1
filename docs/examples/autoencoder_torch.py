"""A deep autoencoder of digits, the benchmark of Martens & Grosse (2015), with K-FAC.

Eight layers, 64-128-64-32-10-32-64-128-64 with tanh, squeeze 1,437 images of 8 x 8
pixels through ten numbers. Such networks are what second-order methods were made for:
at first each output is the mean image, a plateau that the gradient says little about.

    python docs/examples/autoencoder_torch.py
"""

from itertools import pairwise

import torch
from comparison import arguments, draw, report, run
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from kfac_adapters.torch import KFAC

SIZES = (64, 128, 64, 32, 10, 32, 64, 128, 64)
RATES = (3e-3, 1e-2, 3e-2)
"""The grid of AdamW's rates, each with a one-cycle schedule, and batches of 256."""

WHAT = "squared error of an image (training)"


def data():
    """Return images for training, ``[1437, 64]``, of pixels from 0 to 1."""
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:1437]]


def autoencoder():
    """Return the network, whose code and logits have no tanh."""
    layers = []
    for inputs, outputs in pairwise(SIZES):
        layers.append(nn.Linear(inputs, outputs))
        if outputs not in (SIZES[4], SIZES[-1]) or len(layers) == 3:
            layers.append(nn.Tanh())
    return nn.Sequential(*layers)


def train(label, make_optimizer, steps, batch):
    """Return the curve of an optimiser, from the same start."""
    torch.manual_seed(0)
    model, images = autoencoder(), data()
    optimizer, schedule = make_optimizer(model)

    def step(_):
        x = images[torch.randperm(len(images))[:batch]]

        def closure():
            optimizer.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(model(x), x)
            loss.backward()
            return loss

        optimizer.step(closure)
        if schedule is not None:
            schedule.step()

    @torch.no_grad()
    def error():
        return float(((model(images).sigmoid() - images) ** 2).sum(1).mean())

    return run(label, steps, step, error)


def kfac(model):
    """K-FAC of 2015: its own step length and momentum, adaptive damping."""
    optimizer = KFAC(
        model,
        damping=1e-2,
        loss="binary_cross_entropy_with_logits",
        momentum_type="qmodel",
        adapt_damping=True,
        invert_every=5,
    )
    return optimizer, None


def adamw(rate, steps):
    """AdamW, whose rate rises and falls once."""

    def make(model):
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rate, total_steps=steps
        )
        return optimizer, schedule

    return make


def main():
    """Compare."""
    given = arguments(__doc__, "autoencoder_torch")
    of_kfac, of_adamw = (6, 6) if given.quick else (120, 2000)
    ours = train("K-FAC", kfac, of_kfac, 720)
    others = [
        train(f"AdamW, lr {rate:g}", adamw(rate, of_adamw), of_adamw, 256)
        for rate in RATES
    ]
    report(ours, others, WHAT)
    draw(given.picture, ours, others, WHAT)


if __name__ == "__main__":
    main()
