"""Which case each row of a layer belongs to, whatever order a model has them in."""

import pytest
import torch
from torch import nn
from torch_models import (
    assert_same,
    drawn,
    gradients,
    labels,
    loss_curvature,
    matrix,
    same,
    seeded,
    statistics,
)

from kfac_adapters.torch import KFAC, Preconditioner

F = nn.functional


class Pooled(nn.Module):
    """A mean over the positions of sequences, time before their cases or after them."""

    def __init__(self, kind, time_first):
        super().__init__()
        self.time_first, batch_first = time_first, not time_first
        self.layer = (
            nn.GRU(4, 4, batch_first=batch_first)
            if kind == "recurrent"
            else nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=batch_first)
        )
        self.norm, self.out = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x):  # [cases, positions, 4]
        made = self.layer(x.transpose(0, 1) if self.time_first else x)
        made = made[0] if isinstance(made, tuple) else made
        return self.out(self.norm(made).mean(0 if self.time_first else 1))


def exact_diagonal(model, x, layer):
    """The diagonal of the Fisher for a layer, by gradients of each case's logits."""
    logits, own = model(x), [*layer.parameters()]
    rows = [
        torch.autograd.grad(one, own, retain_graph=True)
        for case in logits
        for one in case
    ]
    j = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    j = j.reshape(*logits.shape, -1)
    h = loss_curvature(logits.detach(), "cross_entropy")
    return torch.einsum("ncp,ncd,ndp->p", j, h, j) / len(j)


KINDS = ["recurrent", "attention"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cases", [5, 3])
def test_time_may_be_as_long_as_the_batch_and_come_first(kind, cases):
    model, x = seeded(lambda: Pooled(kind, time_first=True)), drawn(cases, 5, 4)
    _, estimator, state = statistics(model, x)
    _, found = matrix(estimator, state, "norm.weight")
    assert_same(found.diagonal(), exact_diagonal(model, x, model.norm))
    other = seeded(lambda: Pooled(kind, time_first=False))
    _, _, batch_first = statistics(other, x)
    for layer in estimator.layers:
        both = (own.blocks[layer.name] for own in (state, batch_first))
        assert_same(*map(layer.block.full_fisher_block, both))


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_first_batch_is_that_of_later_ones(kind):
    """The first batch is longer than it has cases, and the second one is not."""
    found = []
    for time_first in (True, False):
        model = seeded(lambda first=time_first: Pooled(kind, time_first=first))
        own = Preconditioner(model, damping=0.1, mode="empirical")
        for length in (7, 5):
            model.zero_grad()
            F.cross_entropy(model(drawn(5, length, 4)), labels(5)).backward()
            own.step()
        found.append(gradients(model))
    same(*found, rtol=1e-9)


class Words(nn.Module):
    """A causal transformer of two layers, with the loss of each position."""

    def __init__(self, time_first):
        super().__init__()
        self.time_first = time_first
        options = {"dropout": 0.0, "batch_first": not time_first}
        self.emb = nn.Embedding(7, 4)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(4, 2, 6, **options) for _ in range(2)
        )
        self.out = nn.Linear(4, 3)

    def forward(self, ids):
        x, size = self.emb(ids), ids.shape[1]
        x = x + torch.arange(size)[:, None] / size
        x = x.transpose(0, 1) if self.time_first else x
        future = torch.triu(torch.ones(size, size, dtype=torch.bool), 1)
        for layer in self.layers:
            x = layer(x, src_mask=future, is_causal=True)
        return self.out(x.transpose(0, 1) if self.time_first else x)


def words(ignored, cases=3, positions=4):
    """Ids, and targets of which some are ignored."""
    ids = labels(cases, positions, classes=7)
    y = labels(cases, positions, seed=2)
    for place in ignored:
        y[place] = -100
    return ids, y


PROMPTS = [(slice(None), slice(None, 3)), (1,)]
PADDING = [(0, slice(2, None)), (1, slice(3, None))]


@pytest.mark.parametrize("mode", ["exact", "empirical"])
@pytest.mark.parametrize("ignored", [PROMPTS, PADDING], ids=["prompts", "padding"])
def test_ignored_positions_are_those_of_every_order(ignored, mode):
    found, (ids, y) = [], words(ignored)
    for time_first in (True, False):
        model = seeded(lambda first=time_first: Words(first))
        own = Preconditioner(model, damping=0.1, mode=mode)
        F.cross_entropy(model(ids).flatten(0, 1), y.flatten()).backward()
        own.step()
        found.append(gradients(model))
    same(*found, rtol=1e-9)


def by_hand(model, ids, y, layer):
    """The product of both factors of a layer: of the rows that a loss reaches, by hand.

    The root of each loss's Hessian is that of the core, ``diag(r) - p r'`` with roots
    ``r`` of the probabilities, since a row sums over the losses that it reaches.
    """
    seen = []
    handle = layer.register_forward_hook(lambda _, args, out: seen.extend((*args, out)))
    logits = model(ids).flatten(0, 1)
    handle.remove()
    x, out = seen
    p = logits.detach().softmax(-1)
    counting = (y.flatten() != -100).to(p.dtype)
    roots = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
    roots = roots * counting[:, None, None]
    pulled = [
        torch.autograd.grad(logits, out, roots[..., k], retain_graph=True)[0]
        for k in range(3)
    ]
    g = torch.stack([own.flatten(0, -2) for own in pulled])
    reached = (g != 0).any(-1).any(0)
    inputs = x.detach().flatten(0, -2)[reached]
    inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    a = inputs.mT @ inputs / len(inputs)
    b = torch.einsum("kni,knj->ij", g, g) / counting.sum()
    return torch.einsum("oq,ij->oiqj", b, a)


@pytest.mark.parametrize("ignored", [PROMPTS, PADDING], ids=["prompts", "padding"])
@pytest.mark.parametrize("name", ["layers.0.linear1", "layers.1.linear2", "out"])
def test_rows_that_reach_a_loss_count_and_others_do_not(name, ignored):
    """A prompt has no loss of its own, and reaches that of its answer."""
    (ids, y), model = words(ignored), seeded(lambda: Words(time_first=False))
    optimizer = KFAC(model, mode="exact")
    F.cross_entropy(model(ids).flatten(0, 1), y.flatten()).backward()
    expected = by_hand(model, ids, y, model.get_submodule(name))
    tracker = optimizer._tracker
    _, found = matrix(tracker.estimator, tracker.state, f"{name}.weight")
    out, width = expected.shape[:2]
    of_weight, of_bias = expected[:, :-1, :, :-1], expected[:, -1, :, -1]
    split = out * (width - 1)
    assert_same(found[:split, :split], of_weight.reshape(split, split))
    assert_same(found[split:, split:], of_bias)


def test_attention_over_pooled_positions_has_cases_of_its_own():
    """Its last projection has time and cases in one axis."""
    model = seeded(lambda: Pooled("attention", time_first=False))
    optimizer = KFAC(model, mode="empirical")
    F.cross_entropy(model(drawn(4, 6, 4)), labels(4)).backward()
    optimizer.step()
    assert optimizer._tracker.capture.joint == ()


class Positions(nn.Module):
    """A norm of positions, which are computed once for a batch."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(9, 4), nn.LayerNorm(4)
        self.inner, self.out = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        own = self.norm(self.table(torch.arange(x.shape[1])))
        return self.out(torch.tanh(self.inner(x) + own).mean(1))


@pytest.mark.parametrize("length", [2, 3, 7])
def test_positions_of_all_cases_are_uses_of_each(length):
    """Each case has the gradient of the sum over positions, fewer than cases or more.

    A pass for the loss of one case alone is that of all cases where the others have
    none, so that the sum over such passes is exact.
    """
    model, x = seeded(Positions), drawn(5, length, 3)
    captured, estimator, _ = statistics(model, x)
    linearization, logits = captured.linearize(x), model(x).detach()
    assert "norm.weight" in captured.joint
    p = logits.softmax(-1)
    roots = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
    layer = next(own for own in estimator.layers if own.params[0] == "norm.weight")
    block, (site,) = layer.block, layer.sites
    inputs, state = linearization.layer_inputs[site], block.init(x)
    passes = [(case, k) for case in range(5) for k in range(3)]
    for case, k in passes:
        vector = torch.zeros_like(logits)
        vector[case] = roots[case, :, k]
        g = linearization.output_gradients({"loss": vector})[site]
        state = block.update_covs(state, inputs, g, 1.0)
    found = block.full_fisher_block(state).diagonal() * len(passes) / 5
    assert_same(found, exact_diagonal(model, x, model.norm))
