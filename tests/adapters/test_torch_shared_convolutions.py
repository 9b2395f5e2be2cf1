"""Convolutions that a case uses several times: of frames, of pairs, of a pyramid.

The truth is by enumeration: patches by ``unfold`` of what a layer is called with, and
the gradients of all classes by autograd.
"""

import pytest
import torch
from torch import nn
from torch_models import assert_same, drawn, labels, matrix, same, seeded, statistics

import kfac_core as kc
from kfac_adapters.torch import KFAC, capture
from kfac_core.errors import UnsupportedError
from kfac_core.typing import Uses

F = nn.functional


class Frames(nn.Module):
    """A network of images for all frames of a film, its axes of cases and time one."""

    def __init__(self, groups):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, (2, 3), padding=(0, 1), groups=groups)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        frames = torch.tanh(self.conv(x.flatten(0, 1)))
        return self.out(frames.mean((2, 3)).unflatten(0, x.shape[:2]).mean(1))


class Siamese(nn.Module):
    """One network for both halves of a case."""

    def __init__(self, groups):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 2, stride=2, groups=groups, bias=False)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        first, second = (torch.tanh(self.conv(part)) for part in x.split(2, 1))
        return self.out((first * second).mean((2, 3)))


class Pyramid(nn.Module):
    """One head for all levels of a pyramid, as in detectors of objects."""

    def __init__(self, groups, levels=3):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
        self.out, self.levels = nn.Linear(4, 3), levels

    def forward(self, x):
        images = [F.avg_pool2d(x, 2**i) for i in range(self.levels)]
        heads = [torch.tanh(self.conv(image)).sum((2, 3)) for image in images]
        return self.out(sum(heads))


MODELS = {
    "frames": (Frames, drawn(3, 2, 4, 3, 3)),
    "siamese": (Siamese, drawn(3, 4, 4, 4)),
    "pyramid": (Pyramid, drawn(3, 4, 6, 5)),
}


def expected_fisher(model, x):
    """``P T kron(G_i, A_i)`` of each group, in PyTorch's order of weights and bias."""
    conv, calls = model.conv, []
    handle = conv.register_forward_hook(lambda _, args, out: calls.append((*args, out)))
    logs = model(x).log_softmax(1)
    handle.remove()
    inputs, outputs = zip(*calls, strict=True)
    groups, outs = conv.groups, conv.out_channels // conv.groups
    options = {"padding": conv.padding, "stride": conv.stride}
    patches = [F.unfold(a, conv.kernel_size, **options) for a in inputs]
    rows = torch.cat([p.movedim(1, -1).flatten(0, 1) for p in patches])
    rows = rows.unflatten(1, (groups, -1)).movedim(1, 0)
    if conv.bias is not None:
        rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], -1)
    count, moment = rows.shape[1], 0.0
    for y in range(logs.shape[1]):
        vector = logs[:, y].exp().detach().sqrt() * logs[:, y]
        found = torch.autograd.grad(vector.sum(), outputs, retain_graph=True)
        g = torch.cat([own.flatten(2).movedim(1, -1).flatten(0, 1) for own in found])
        g = g.unflatten(1, (groups, outs)).movedim(1, 0)
        moment = moment + g.mT @ g / count
    a, locations = rows.mT @ rows / count, count / len(x)
    weight = conv.weight[0].numel()
    size = sum(p.numel() for p in conv.parameters())
    dense = rows.new_zeros(size, size)
    for i in range(groups):
        own = torch.arange(outs) + i * outs
        places = own[:, None] * weight + torch.arange(weight)
        if conv.bias is not None:
            bias = weight * conv.out_channels + own
            places = torch.cat([places, bias[:, None]], 1)
        flat = places.flatten()
        dense[flat[:, None], flat] = locations * torch.kron(moment[i], a[i])
    return dense


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_all_locations_of_all_uses_count(name, groups):
    make, x = MODELS[name]
    model = seeded(lambda: make(groups))
    found = matrix(*statistics(model, x)[1:], "conv.weight")[1]
    assert_same(found, expected_fisher(model, x))


@pytest.mark.parametrize("groups", [1, 4])
def test_images_of_a_later_batch_may_have_other_sizes(groups):
    model = seeded(lambda: Pyramid(groups))
    optimizer = KFAC(model, lr=0.05, damping=0.1, loss="cross_entropy")
    for size in (8, 5, 8):
        x, y = drawn(6, 4, size, size), labels(6)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    state = optimizer.state_dict()
    assert all(p.isfinite().all() for p in model.parameters())
    other = seeded(lambda: Pyramid(groups))
    again = KFAC(other, lr=0.05, damping=0.1, loss="cross_entropy")
    other.load_state_dict(model.state_dict())
    again.load_state_dict(state)
    x, y = drawn(6, 4, 6, 6, seed=3), labels(6)
    for net, own in ((model, optimizer), (other, again)):
        own.zero_grad()
        F.cross_entropy(net(x), y).backward()
        own.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        same(p.detach(), q.detach())


def test_another_number_of_sizes_is_refused_by_name():
    model = seeded(lambda: Pyramid(1))
    captured = capture(model, "cross_entropy")
    captured.linearize(drawn(2, 4, 8, 8))
    model.levels = 2
    with pytest.raises(UnsupportedError, match=r"conv\.weight: this pass uses it 2"):
        captured.linearize(drawn(2, 4, 8, 8))


def test_rows_of_frames_in_passes_are_those_of_one_batch():
    x, y = drawn(6, 2, 4, 3, 3), labels(6)
    states = []
    for parts in (1, 2):
        model = seeded(lambda: Frames(2))
        optimizer = KFAC(
            model, lr=0.1, damping=0.1, loss="cross_entropy", mode="gradients"
        )
        optimizer.zero_grad()
        for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (F.cross_entropy(model(a), b) / parts).backward()
        optimizer.step()
        states.append([p.detach() for p in model.parameters()])
    for one, other in zip(*states, strict=True):
        same(one, other)


class Decoder(nn.Module):
    """A transposed convolution for both halves of a case, or for both sizes of it."""

    def __init__(self, groups, sizes):
        super().__init__()
        self.up = nn.ConvTranspose2d(
            4, 4, 3, stride=2, padding=1, output_padding=1, groups=groups
        )
        self.out, self.sizes = nn.Linear(4, 3), sizes

    def forward(self, x):
        parts = x.split(4, 1) if self.sizes == 1 else (x, F.avg_pool2d(x, 2))
        return self.out(sum(torch.tanh(self.up(part)).mean((2, 3)) for part in parts))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("sizes", [1, 2])
def test_transposed_convolutions_see_all_uses(groups, sizes):
    x = drawn(3, 8 // sizes, 4, 4)
    model = seeded(lambda: Decoder(groups, sizes))
    found = matrix(*statistics(model, x)[1:], "up.weight")[1]
    # As the core has it of the inputs of all uses, and the gradients of all classes.
    up, calls = model.up, []
    handle = up.register_forward_hook(lambda _, args, out: calls.append((*args, out)))
    logs = model(x).log_softmax(1)
    handle.remove()
    inputs, outputs = (Uses(own) for own in zip(*calls, strict=True))
    sources = []
    for y in range(3):
        vector = (logs[:, y].exp().detach().sqrt() * logs[:, y]).sum()
        g = torch.autograd.grad(vector, outputs.arrays, retain_graph=True)
        sources.append((Uses(tuple(g)),))
    geometry = kc.ConvolutionGeometry(
        tuple(up.weight.shape),
        padding=1,
        strides=2,
        num_groups=groups,
        data_format="NCHW",
        layout="IOHW",
    )
    block = kc.blocks.TransposedConvKFCBasicMultiIndepFB(
        geometry, output_padding=1, has_bias=True
    )
    state = block.init(x)
    state = block.update_covs(state, inputs, tuple(sources), ema_decay=0.0)
    assert_same(found, block.full_fisher_block(state))
    # A bias is exact: of all uses together.
    total = [sum(g.sum((2, 3)) for g in own.arrays) for (own,) in sources]
    bias = sum(g.T @ g for g in total) / len(x)
    assert_same(found[-4:, -4:], bias)
