"""Statistics of the user's own backward pass, and how many passes others take."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch_models import Loop, ResNet, drawn, labels, mlp, same, seeded

import kfac_core as kc
from kfac_adapters.torch import KFAC, Preconditioner, capture
from kfac_core.errors import UnsupportedError

F = nn.functional


class Counted(torch.autograd.Function):
    """The identity, whose backward passes are counted."""

    passes = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        Counted.passes += 1
        return g


class Counting(nn.Module):
    def __init__(self, scaled=False):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(8)) if scaled else 1.0

    def forward(self, x):
        return self.b(Counted.apply(torch.tanh(self.a(x) * self.scale)))


def passes_of_a_step(model, **options):
    optimizer = KFAC(model, lr=0.01, **options)
    for _ in range(2):  # the first pass is checked against autograd
        Counted.passes = 0
        optimizer.zero_grad()
        F.cross_entropy(model(drawn(16, 6)), labels(16)).backward()
        optimizer.step()
    return Counted.passes


def test_the_empirical_fisher_takes_no_pass_of_its_own():
    assert passes_of_a_step(seeded(Counting), mode="empirical") == 1
    assert passes_of_a_step(seeded(Counting), mode="gradients") == 2


def test_a_diagonal_of_a_summed_gradient_takes_no_pass_of_its_own():
    model = seeded(lambda: Counting(scaled=True))
    assert passes_of_a_step(model, unclaimed="diagonal") == 2


def of_tokens(logits, y):
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def summed(logits, y):
    return F.cross_entropy(logits, y, reduction="sum")


def scaled(logits, y):
    return 1024.0 * F.cross_entropy(logits, y)


def ignoring(*shape):
    y = labels(*shape).flatten()
    y[::3] = -100
    return y.reshape(shape)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = checkpoint(lambda x: torch.tanh(self.a(x)), x, use_reentrant=False)
        return self.b(hidden)


def attending():
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Linear(6, 3))


def tokens_model():
    return seeded(attending)


CASES = {
    # model, shape of the inputs, targets, loss, scale of the mean over rows
    "mean": (mlp, (16, 6), labels(16), F.cross_entropy, 1.0),
    "sum": (mlp, (16, 6), labels(16), summed, 16.0),
    "scaled": (mlp, (16, 6), labels(16), scaled, 1.0),
    "ignoring": (mlp, (16, 6), ignoring(16), F.cross_entropy, 16 / 10),
    "tokens": (
        tokens_model,
        (4, 5, 6),
        ignoring(4, 5),
        of_tokens,
        20 / 13,
    ),
    "squares": (mlp, (16, 6), drawn(16, 3), F.mse_loss, 1 / 3),
    "uses": (lambda: seeded(Loop), (16, 6), labels(16), F.cross_entropy, 1.0),
    "images": (lambda: seeded(ResNet).eval(), (5, 2, 8, 8), labels(5), scaled, 1.0),
    "checkpoint": (lambda: seeded(Checkpointed), (16, 6), labels(16), summed, 16.0),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_that_of_the_targets(case):
    make, shape, y, loss_of, scale = CASES[case]
    model, x = make(), drawn(*shape)
    loss = "mse_loss" if loss_of is F.mse_loss else "cross_entropy"
    reduction = "sum" if loss_of is summed else "mean"
    own = Preconditioner(model, loss, mode="empirical", reduction=reduction)
    loss_of(model(x), y).backward()
    own.remove()
    captured = capture(model, loss)
    counting = torch.ones(len(y)).double() if loss == "mse_loss" else (y != -100)
    counting = counting.flatten().double()
    share = counting.mean()  # rows that count have the mean weight one
    given = captured.linearize(x, mask=None if share == 1 else counting / share)
    given.targets = {"loss": y if loss == "mse_loss" else y.flatten().clamp(min=0)}
    given.root = (scale * share) ** 0.5
    estimator = kc.FisherEstimator(captured.collection, "empirical")
    params = {n: p.detach() for n, p in model.named_parameters()}
    expected = estimator.update_covs(estimator.init(params), given, 0.95)
    sums = [x for x in kc.tree.leaves(expected) if x.is_floating_point()]
    found = [x for x in kc.tree.leaves(own._tracker.state) if x.is_floating_point()]
    same(found, sums)
    assert max(float(x.abs().max()) for x in sums) > 0


def test_classes_weigh_relative_to_their_mean():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    of_class = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)

    def outputs_side(loss_of):
        own = Preconditioner(model, mode="empirical")
        loss_of(model(x)).backward()
        own.remove()
        state = own._tracker.state.blocks["2.weight+2.bias"].output_factor.cov
        return state.total / state.weight

    found = outputs_side(lambda z: F.cross_entropy(z, y, weight=of_class))
    z = model(x).detach()
    rows = of_class[y][:, None] * (z.softmax(-1) - F.one_hot(y, 3))
    rows = rows / of_class[y].mean()
    same([found], [rows.T @ rows / 16])
    plain = outputs_side(lambda z: F.cross_entropy(z, y))
    assert not torch.allclose(found, plain)


def test_smoothed_labels_are_refused_by_name():
    model = mlp()
    own = Preconditioner(model, "cross_entropy", mode="empirical")
    loss = F.cross_entropy(model(drawn(16, 6)), labels(16), label_smoothing=0.1)
    with pytest.raises(UnsupportedError, match="smoothed"):
        loss.backward()
    own.remove()


class Pooled(nn.Module):
    """Attention whose tokens are pooled, of which each case has several."""

    def __init__(self, batch_first):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=batch_first)
        self.tokens, self.out = 1 if batch_first else 0, nn.Linear(6, 3)
        self.projected = None

    def forward(self, x):
        y, _ = self.attention(x, x, x, need_weights=False)
        self.projected = y
        return self.out(y.mean(self.tokens))


@pytest.mark.parametrize("batch_first", [True, False])
def test_tokens_of_attention_are_those_of_their_cases(batch_first):
    model = seeded(lambda: Pooled(batch_first))
    x = drawn(4, 5, 6) if batch_first else drawn(5, 4, 6)
    y = torch.tensor([0, -100, 2, 1])  # three of four cases count
    own = Preconditioner(model, "cross_entropy", mode="empirical")
    loss = F.cross_entropy(model(x), y)
    (at_tokens,) = torch.autograd.grad(loss, [model.projected], retain_graph=True)
    loss.backward()
    own.remove()
    block, state = next(
        (layer.block, own._tracker.state.blocks[layer.name])
        for layer in own._tracker.capture.collection.layers
        if "out_proj" in layer.name
    )
    # The mean over three cases has a third of the gradient of each, and G is their mean
    # over cases and tokens.
    rows = 3 * at_tokens.reshape(-1, 6)
    same([block.output_factor.get_cov(state.output_factor)], [rows.mT @ rows / 15])
    corner = block.input_factor.get_cov(state.input_factor)[-1, -1]
    same([corner], [torch.ones_like(corner)])  # the one of the bias: rows that count


class Branched(nn.Module):
    """A network of two layers, and one whose outputs nothing uses."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)
        self.aside = nn.Linear(6, 2)
        self.hidden = None

    def forward(self, x):
        self.hidden = torch.tanh(self.first(x))
        self.aside(x)
        return self.last(self.hidden)


def statistics(mode, before, y=None):
    model = seeded(Branched)
    own = Preconditioner(model, "cross_entropy", mode=mode)
    logits = model(drawn(16, 6))
    before(model, F.cross_entropy(logits, labels(16).roll(1)))
    F.cross_entropy(logits, labels(16) if y is None else y).backward()
    own.remove()
    return [x for x in kc.tree.leaves(own._tracker.state) if x.is_floating_point()]


def nothing(model, loss):
    pass


def of_the_hidden(model, loss):
    torch.autograd.grad(loss, [model.hidden], retain_graph=True)


def of_the_last_weight(model, loss):
    torch.autograd.grad(loss, [model.last.weight], retain_graph=True)


def of_all_parameters(model, loss):
    given = [p for n, p in model.named_parameters() if "aside" not in n]
    torch.autograd.grad(loss, given, retain_graph=True)


@pytest.mark.parametrize("mode", ["empirical", "gradients"])
@pytest.mark.parametrize("before", [of_the_hidden, of_the_last_weight])
def test_a_gradient_that_leaves_out_layers_is_not_that_of_the_loss(mode, before):
    same(statistics(mode, before), statistics(mode, nothing))


def test_the_first_gradient_of_all_layers_is_that_of_the_loss():
    of_others = statistics("empirical", nothing, labels(16).roll(1))
    same(statistics("empirical", of_all_parameters), of_others)
    of_loss = statistics("empirical", nothing)
    far = [not torch.allclose(x, y) for x, y in zip(of_loss, of_others, strict=True)]
    assert any(far)
