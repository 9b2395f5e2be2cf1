"""A convolutional network that reads digits, with K-FAC.

The data are 1,437 images of 8 x 8 pixels for training, and 360 for testing. K-FAC takes
statistics every fifth step, makes new inverses every twentieth, and has a bound on the
length of its steps, so that a learning rate does not have to be found.

    python docs/examples/digits_torch.py
"""

import torch
from comparison import arguments, draw, report, run
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from kfac_adapters.torch import KFAC

BATCH = 128
RATES = (1e-2, 3e-2, 1e-1)
"""The grid of AdamW's learning rates, each with a one-cycle schedule."""

WHAT = "loss of all images for training"


def data():
    """Return images ``[1797, 1, 8, 8]`` of mean 0 and variance 1, and labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images = (images - images.mean()) / images.std()
    return images[order], torch.tensor(digits.target)[order]


def network():
    """Return a small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    )


def train(label, make_optimizer, steps):
    """Return the curve of an optimiser, from the same start."""
    torch.manual_seed(0)
    model, (images, labels) = network(), data()
    optimizer, schedule = make_optimizer(model, steps)

    def step(_):
        i = torch.randperm(1437)[:BATCH]
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images[i]), labels[i])
        loss.backward()
        optimizer.step()
        schedule.step()

    @torch.no_grad()
    def loss():
        logits = model(images[:1437])
        return float(functional.cross_entropy(logits, labels[:1437]))

    curve = run(label, steps, step, loss)
    with torch.no_grad():
        right = (model(images[1437:]).argmax(1) == labels[1437:]).float().mean()
    print(f"{label}: {right:.1%} of the images for testing")
    return curve


def one_cycle(optimizer, rate, steps):
    """Return a schedule of a rate that rises and falls once."""
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, cycle_momentum=False
    )


def kfac(model, steps):
    """K-FAC with the same schedule."""
    optimizer = KFAC(
        model,
        damping=3e-2,
        norm_constraint=1e-3,
        cov_every=5,
        invert_every=20,
    )
    return optimizer, one_cycle(optimizer, 0.1, steps)


def adamw(rate):
    """AdamW of a rate."""

    def make(model, steps):
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0)
        return optimizer, one_cycle(optimizer, rate, steps)

    return make


def main():
    """Compare."""
    given = arguments(__doc__, "digits_torch")
    of_kfac, of_adamw = (6, 6) if given.quick else (200, 400)
    ours = train("K-FAC", kfac, of_kfac)
    others = [train(f"AdamW, lr {rate:g}", adamw(rate), of_adamw) for rate in RATES]
    report(ours, others, WHAT)
    draw(given.picture, ours, others, WHAT)


if __name__ == "__main__":
    main()
