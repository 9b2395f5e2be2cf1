"""A physics-informed network: the Poisson equation on a square, with K-FAC.

The network is trained so that ``laplace u = f`` holds at 400 points, ``u`` being
zero at the border by its form. Its loss is the mean square of residuals with second
derivatives of the network, whose curvature is ill-conditioned: first-order methods
crawl. The module below computes the derivatives in its forward pass, so that its
outputs are residuals, whose exact Gauss-Newton matrix takes one backward pass.

    python docs/examples/physics_torch.py
"""

import math

import torch
from comparison import arguments, draw, report, run
from torch import nn
from torch.nn import functional

from kfac_adapters.torch import KFAC

POINTS = 400
RATES = (1e-2, 3e-2, 1e-1)
"""The grid of AdamW's learning rates, each with a one-cycle schedule."""

WHAT = "relative error of u"


def truth(x: torch.Tensor) -> torch.Tensor:
    """Return the solution, ``[points, 1]``."""
    return torch.sin(math.pi * x).prod(-1, keepdim=True)


class Poisson(nn.Module):
    """``u = a (1 - a) b (1 - b) n(a, b)``, ``n`` being a network; returns residuals."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = (2, width, width, width, 1)
        self.layers = nn.ModuleList(map(nn.Linear, sizes, sizes[1:]))

    def solution(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``u`` at points, ``[points, 1]``."""
        n = x
        for layer in self.layers:
            n = layer(n if layer is self.layers[0] else torch.tanh(n))
        return (x * (1 - x)).prod(-1, keepdim=True) * n

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(laplace u - f) / pi^2`` at points ``[points, 2]``."""
        # The value, and of it the two first derivatives and the Laplacian.
        n = x
        rest = torch.zeros(3, len(x), 2, dtype=x.dtype)
        rest[0, :, 0] = rest[1, :, 1] = 1
        for layer in self.layers:
            if layer is not self.layers[0]:
                n = torch.tanh(n)
                slope = 1 - n**2
                bend = -2 * n * slope * (rest[0] ** 2 + rest[1] ** 2)
                rest = slope * rest + torch.stack([0 * bend, 0 * bend, bend])
            n, rest = layer(n), functional.linear(rest, layer.weight)
        by_a, by_b, laplacian = rest
        a, b = x[:, :1], x[:, 1:]
        p, q = a * (1 - a), b * (1 - b)
        of_u = p * q * laplacian - 2 * (p + q) * n
        of_u = of_u + 2 * ((1 - 2 * a) * q * by_a + (1 - 2 * b) * p * by_b)
        return of_u / math.pi**2 + 2 * truth(x)


def train(label, make_optimizer, steps):
    """Return the curve of an optimiser, from the same start and on the same points."""
    torch.manual_seed(0)
    model = Poisson().double()
    optimizer, schedule = make_optimizer(model)
    line = torch.linspace(0, 1, 33, dtype=torch.float64)
    test = torch.cartesian_prod(line, line)

    x = torch.rand(POINTS, 2, dtype=torch.float64)

    def step(_):
        def closure():
            optimizer.zero_grad()
            residuals = model(x)
            loss = functional.mse_loss(residuals, torch.zeros_like(residuals))
            loss.backward()
            return loss

        optimizer.step(closure)
        if schedule is not None:
            schedule.step()

    @torch.no_grad()
    def error():
        difference = model.solution(test) - truth(test)
        return float(difference.norm() / truth(test).norm())

    return run(label, steps, step, error)


def kfac(model):
    """K-FAC of 2015: exact curvature, its own step length, adaptive damping."""
    optimizer = KFAC(
        model,
        damping=1e-2,
        loss="mse_loss",
        mode="exact",
        momentum_type="qmodel",
        adapt_damping=True,
        cov_every=2,
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
    given = arguments(__doc__, "physics_torch")
    of_kfac, of_adamw = (6, 6) if given.quick else (160, 1200)
    ours = train("K-FAC", kfac, of_kfac)
    others = [
        train(f"AdamW, lr {rate:g}", adamw(rate, of_adamw), of_adamw) for rate in RATES
    ]
    report(ours, others, WHAT)
    draw(given.picture, ours, others, WHAT)


if __name__ == "__main__":
    main()
