"""Convolutions of every kind, as PyTorch has them, against dense truth."""

import pytest
import torch
from torch import nn
from torch_models import assert_same, dense_fisher, drawn, matrix, seeded, statistics

from kfac_adapters.torch import capture

TRANSPOSED = {
    "one axis": lambda: nn.ConvTranspose1d(4, 6, 3),
    "two axes": lambda: nn.ConvTranspose2d(4, 6, (2, 3)),
    "three axes": lambda: nn.ConvTranspose3d(4, 6, 2),
    "strides and output padding": lambda: nn.ConvTranspose2d(
        4, 6, 3, stride=(2, 3), output_padding=(1, 2)
    ),
    "padding": lambda: nn.ConvTranspose2d(4, 6, 4, padding=(1, 0)),
    "dilation": lambda: nn.ConvTranspose2d(4, 6, 2, dilation=2),
    "groups": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "without bias": lambda: nn.ConvTranspose2d(4, 6, 3, bias=False),
}


def made(layer, x):
    """A model whose lazy layers know their shapes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(layer(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
        model = model.double()
        model(x)
    return model


def without_groups(found, expected):
    """A block keeps nothing between groups, nor between weights and a bias."""
    kept = found != 0
    assert kept.any()
    return torch.where(kept, expected, 0.0)


@pytest.mark.parametrize("kind", TRANSPOSED)
def test_transposed_convolution_of_one_input_location_and_case_is_exact(kind):
    rank = {"one axis": 1, "three axes": 3}.get(kind, 2)
    x = drawn(1, 4, *[1] * rank)
    model = made(TRANSPOSED[kind], x)
    names, found = matrix(*statistics(model, x)[1:], "0.weight")
    size = model[0].weight.numel()
    assert len(names) == (1 if kind == "without bias" else 2)
    expected = dense_fisher(model, x, names)
    assert_same(found[size:, size:], expected[size:, size:])
    found, expected = found[:size, :size], expected[:size, :size]
    if kind == "groups":
        assert (found != 0).sum() == found.numel() / 2
        expected = without_groups(found, expected)
    assert_same(found, expected)


def test_transposed_convolution_of_several_locations_is_not_exact():
    x = drawn(1, 4, 2, 2)
    model = made(TRANSPOSED["two axes"], x)
    names, found = matrix(*statistics(model, x)[1:], "0.weight")
    size = model[0].weight.numel()
    exact = dense_fisher(model, x, names)[:size, :size]
    assert (found[:size, :size] - exact).norm() > 1e-3 * exact.norm()


def test_output_size_of_a_transposed_convolution_may_change():
    class Upsampled(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.out = nn.ConvTranspose1d(2, 4, 3, stride=2), nn.Linear(4, 3)

        def forward(self, x, size):
            return self.out(torch.tanh(self.up(x, output_size=[size])).mean(-1))

    model = seeded(Upsampled)
    captured = capture(model, "cross_entropy")
    for size in (9, 10):
        given = captured.linearize(drawn(3, 2, 4), size)
        vectors = {"loss": drawn(3, 3)}
        assert given.output_gradients(vectors)["up.weight"].shape == (3, 4, size)


PADDED = {
    "reflect": {"padding": (1, 2), "padding_mode": "reflect"},
    "replicate": {"padding": 2, "padding_mode": "replicate"},
    "circular": {"padding": (0, 1), "padding_mode": "circular"},
    "zeros": {"padding": (1, 0)},
    "same": {"padding": "same", "dilation": (1, 2)},
    "same of an even kernel": {"padding": "same", "kernel_size": (2, 4)},
    "same, reflected": {
        "padding": "same",
        "kernel_size": (2, 4),
        "padding_mode": "reflect",
    },
    "valid": {"padding": "valid", "stride": 2},
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("kind", PADDED)
def test_padded_convolution_sees_the_patches_that_pytorch_sees(kind):
    options = {"kernel_size": 3, **PADDED[kind]}
    x = drawn(3, 2, 5, 6)
    model = made(lambda: nn.Conv2d(2, 4, bias=False, **options), x)
    _, estimator, state = statistics(model, x)
    layer = next(v for v in estimator.layers if v.params == ("0.weight",))
    found = layer.block.input_factor.get_cov(state.blocks[layer.name].input_factor)
    patches = patches_of(model[0], x)
    expected = torch.einsum("npt,nqt->pq", patches, patches) / patches[:, 0].numel()
    # Those of the core have the channel last.
    order = torch.arange(len(expected)).reshape(2, -1).T.flatten()
    assert_same(found, expected[order][:, order])


def patches_of(conv, x):
    """Patches, by a convolution with the weights of the identity: no unfolding."""
    size = conv.weight[0].numel()
    eye = torch.eye(size, dtype=x.dtype).reshape(size, *conv.weight.shape[1:])
    with torch.no_grad():
        return conv._conv_forward(x, eye, None).flatten(2)


def test_padding_that_is_not_zeros_is_not_that_of_zeros():
    def cov(**options):
        x = drawn(3, 2, 5, 6)
        model = made(lambda: nn.Conv2d(2, 4, 3, padding=1, **options), x)
        _, estimator, state = statistics(model, x)
        name = next(v.name for v in estimator.layers if "0.weight" in v.params)
        factor = estimator.blocks[name].input_factor
        return factor.get_cov(state.blocks[name].input_factor)

    difference = cov(padding_mode="reflect") - cov()
    assert difference.norm() > 1e-2 * cov().norm()


def test_images_in_channels_last_and_strided_are_those_of_their_values():
    x = drawn(3, 2, 6, 6)
    model = made(lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), x)
    _, found = matrix(*statistics(model, x)[1:], "0.weight")
    wide = torch.stack([x, x], -1)[..., 0]
    for other in (x.to(memory_format=torch.channels_last), wide):
        assert not other.is_contiguous()
        assert_same(matrix(*statistics(model, other)[1:], "0.weight")[1], found)
    lying = model.to(memory_format=torch.channels_last)
    assert_same(matrix(*statistics(lying, x)[1:], "0.weight")[1], found)
