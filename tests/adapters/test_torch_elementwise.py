"""Scales and shifts, as norms and other modules have them, against dense truth."""

import pytest
import torch
from torch import nn
from torch_models import assert_same, dense_fisher, drawn, matrix, seeded, statistics

from kfac_adapters.torch import capture
from kfac_core.errors import RegistrationError

F = nn.functional


class Own(nn.Module):
    """A norm as others write it, and what is added to each position."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.ones(4)),
            nn.Parameter(torch.ones(4)),
        )
        self.positions = nn.Parameter(torch.ones(1, 3, 4))
        self.gate = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = x + self.positions
        x = self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True))
        x += self.bias
        return x * self.gate


class Image(nn.Module):
    """A first token before the others, and a norm whose parameters are reshaped."""

    def __init__(self, repeats=False):
        super().__init__()
        self.token, self.gain = (
            nn.Parameter(torch.ones(1, 1, 4)),
            nn.Parameter(torch.ones(3)),
        )
        self.offset = nn.Parameter(torch.ones(3))
        self.repeats = repeats

    def forward(self, x):
        x = x * self.gain[:, None] + self.offset.view(1, -1, 1)
        n = len(x)
        token = (
            self.token.repeat(n, 1, 1) if self.repeats else self.token.expand(n, -1, -1)
        )
        return torch.cat([token, x], 1)


class Slopes(nn.Module):
    """What `nn.PReLU` computes, whose derivatives PyTorch cannot map over."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return torch.where(x > 0, x, self.weight[:, None] * x)


def behind(layer, features, **options):
    def make():
        return nn.Sequential(
            layer(**options), nn.Tanh(), nn.Flatten(), nn.Linear(*features)
        )

    return seeded(make).eval()


LAYERS = {
    "instance norm": (
        lambda: behind(nn.InstanceNorm2d, (36, 3), num_features=4, affine=True),
        drawn(5, 4, 3, 3),
    ),
    "instance norm of running statistics": (
        lambda: behind(
            nn.InstanceNorm1d,
            (36, 3),
            num_features=4,
            affine=True,
            track_running_stats=True,
        ),
        drawn(5, 4, 9),
    ),
    "PReLU of one slope": (lambda: behind(nn.PReLU, (12, 3)), drawn(5, 4, 3)),
    "PReLU of channels": (
        lambda: behind(nn.PReLU, (12, 3), num_parameters=4),
        drawn(5, 4, 3),
    ),
    "own": (lambda: behind(Own, (12, 3)), drawn(5, 3, 4)),
    "first token": (lambda: behind(Image, (16, 3)), drawn(5, 3, 4)),
    "first token, repeated": (
        lambda: behind(Image, (16, 3), repeats=True),
        drawn(5, 3, 4),
    ),
    "own, of one case": (lambda: behind(Own, (12, 3)), drawn(1, 3, 4)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_scale_and_shift_have_the_diagonal_of_their_fisher(kind):
    make, x = LAYERS[kind]
    model = make()
    captured, estimator, state = statistics(model, x)
    checked = 0
    for layer in captured.collection.layers:
        if not layer.params[0].startswith("0."):
            continue
        names, found = matrix(estimator, state, layer.params[0])
        if isinstance(model[0], nn.PReLU):
            model[0] = Slopes(model[0].weight.detach())
        exact = dense_fisher(model, x, names)
        assert_same(torch.diag(found), torch.diag(exact))
        checked += len(names)
    assert checked == len(list(model[0].parameters()))


def test_product_that_is_added_to_a_weight_is_no_layer():
    """What a low rank is made of has no rows of cases; the weight beside it has."""

    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))
            self.a, self.b = (
                nn.Parameter(torch.ones(2, 4)),
                nn.Parameter(torch.ones(3, 2)),
            )

        def forward(self, x):
            return F.linear(x, self.weight + self.b @ self.a)

    model, x = seeded(LowRank), drawn(1, 4)
    captured = capture(model, "cross_entropy")
    with pytest.raises(RegistrationError, match=r"^2 .*'a' is used by matmul; 'b' is"):
        captured.linearize(x)
    names, found = matrix(*statistics(model, x, unclaimed="ignore")[1:], "weight")
    assert_same(found, dense_fisher(model, x, names))


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (lambda: nn.Conv2d(4, 4, 2), drawn(5, 4, 2, 2)),
        (lambda: nn.Conv2d(4, 4, 2), drawn(5, 4, 3, 3)),
        (lambda: nn.GroupNorm(2, 4), drawn(5, 4, 2, 2)),
        (lambda: nn.Linear(4, 4), drawn(5, 2, 4)),
    ],
    ids=["convolution", "convolution of several locations", "norm", "positions"],
)
def test_bias_whose_weight_is_frozen_is_exact(layer, x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = layer().double()
        size = first(x)[0].numel()
    model = seeded(
        lambda: nn.Sequential(first, nn.Tanh(), nn.Flatten(), nn.Linear(size, 3))
    )
    model[0].weight.requires_grad_(False)
    names, found = matrix(*statistics(model, x)[1:], "0.bias")
    assert names == ("0.bias",)
    assert_same(found, dense_fisher(model, x, names))


class Shifted(nn.Module):
    """Norms as those of Gemma, whose weights are zeros, and one is added."""

    def __init__(self, shift):
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.zeros(4)), shift

    def forward(self, x):
        return x * self.shift(self.weight)


SHIFTS = {
    "1 + w": lambda w: 1.0 + w,
    "w + 1": lambda w: w + 1,
    "w.float() - 2": lambda w: w.clone() - 2.0,
    "an array and w": lambda w: torch.arange(4.0, dtype=w.dtype) + w,
}


@pytest.mark.parametrize("kind", SHIFTS)
def test_weight_to_which_a_constant_is_added_is_a_scale(kind):
    model, x = behind(Shifted, (12, 3), shift=SHIFTS[kind]), drawn(5, 3, 4)
    captured, *own = statistics(model, x)
    names, found = matrix(*own, "0.weight")
    assert captured.coverage.share == 1.0
    assert_same(found.diagonal(), dense_fisher(model, x, names).diagonal())


class Summed(nn.Module):
    """A layer of one output, as a product with a vector."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x @ self.w


def test_product_with_a_vector_has_the_diagonal_of_its_fisher():
    model, x = behind(Summed, (3, 3)), drawn(5, 3, 4)
    names, found = matrix(*statistics(model, x)[1:], "0.w")
    assert_same(found.diagonal(), dense_fisher(model, x, names).diagonal())
