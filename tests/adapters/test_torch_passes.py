"""Which passes of a model are seen, which are let go, and what nobody sees of it."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch_models import drawn, gradients, labels, mlp, same, seeded, train

from kfac_adapters.torch import KFAC, Preconditioner

F = nn.functional


class Saved:
    """Something that a graph keeps for its backward pass."""

    def __init__(self, x):
        self.x = x


def test_no_graph_is_kept_alive():
    model = mlp()
    optimizer = KFAC(model, lr=0.01)
    x, y, saved = drawn(16, 6), labels(16), []

    def pack(x):
        kept = Saved(x)
        saved.append(weakref.ref(kept))
        return kept

    for _ in range(20):
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.x):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
        model(x)  # of which nobody wants a gradient
        optimizer.step()
        assert not optimizer._tracker.passes.waiting
    del loss
    assert len(saved) > 100
    assert not any(ref() for ref in saved)


def test_optimiser_goes_when_it_is_let_go():
    model = mlp()
    optimizer = KFAC(model, lr=0.01)
    train(model, optimizer, steps=1)
    tracker = weakref.ref(optimizer._tracker)
    del optimizer
    gc.collect()
    assert tracker() is None
    F.cross_entropy(model(drawn(4, 6)), labels(4)).backward()


def test_copies_of_a_model_are_not_seen():
    model = mlp()
    own = Preconditioner(model)
    x, y = drawn(4, 6), labels(4)
    loss = F.cross_entropy(model(x), y)
    F.cross_entropy(copy.deepcopy(model)(x), y).backward()
    F.cross_entropy(pickle.loads(pickle.dumps(model))(x), y).backward()
    assert not own._tracker.has_statistics
    loss.backward()
    own.step()


def test_user_sees_nothing_of_the_second_pass():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    F.cross_entropy(model(x), y).backward()
    expected = gradients(model)
    random = torch.random.get_rng_state()
    model.zero_grad()
    optimizer = KFAC(model)
    F.cross_entropy(model(x), y).backward()
    same(gradients(model), expected, rtol=0)
    assert torch.equal(random, torch.random.get_rng_state())
    assert model.training
    optimizer.remove()
    assert not model._forward_hooks


class Watched(nn.Module):
    """Keeps the gradient of what is between its layers, and has hooks on it."""

    def __init__(self, hooks):
        super().__init__()
        self.a, self.b, self.hooks = nn.Linear(6, 4), nn.Linear(4, 3), hooks

    def forward(self, x):
        inner = torch.tanh(self.a(x))
        inner.register_hook(self.hooks["inner"])  # nobody keeps this tensor
        self.kept = 1 * inner
        self.kept.retain_grad()
        return self.b(self.kept)


@pytest.mark.parametrize("mode", ["gradients", "empirical", "exact"])
def test_hooks_and_kept_gradients_are_those_of_the_loss_alone(mode):
    heard = {"inner": [], "outputs": [], "weight": []}
    hooks = {name: own.append for name, own in heard.items()}
    model, x, y = seeded(lambda: Watched(hooks)), drawn(8, 6), labels(8)
    model.a.weight.register_hook(hooks["weight"])

    def run():
        model.zero_grad()
        outputs = model(x)
        outputs.register_hook(hooks["outputs"])
        outputs.retain_grad()
        F.cross_entropy(outputs, y).backward()
        found = [model.kept.grad, outputs.grad, *gradients(model)]
        for own in heard.values():
            found += own
            own.clear()
        return found

    expected = run()
    optimizer, other = KFAC(model, mode=mode), Preconditioner(model, mode=mode)
    same(run(), expected, rtol=0)
    optimizer.step()
    other.step()


def test_parts_of_a_batch_are_one_step():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    whole = KFAC(model, mode="empirical")
    F.cross_entropy(model(x), y).backward()
    once = [b.input_factor.cov for b in whole._tracker.state.blocks.values()]
    whole.remove()
    parts = KFAC(model, mode="empirical")
    for i in (slice(0, 8), slice(8, 16)):
        F.cross_entropy(model(x[i]), y[i]).backward()
    twice = [b.input_factor.cov for b in parts._tracker.state.blocks.values()]
    for a, b in zip(once, twice, strict=True):
        same([b.total / b.weight], [a.total / a.weight])


def test_loss_of_two_passes_has_the_statistics_of_both():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    model.zero_grad()
    once = KFAC(model, mode="empirical")
    F.cross_entropy(model(x), y).backward()
    whole = [b.input_factor.cov for b in once._tracker.state.blocks.values()]
    once.remove()
    twice = KFAC(model, mode="empirical")
    first, second = model(x[:8]), model(x[8:])
    (F.cross_entropy(first, y[:8]) + F.cross_entropy(second, y[8:])).backward()
    parts = [b.input_factor.cov for b in twice._tracker.state.blocks.values()]
    for a, b in zip(whole, parts, strict=True):
        same([b.total / b.weight], [a.total / a.weight])


def test_passes_without_gradients_are_let_go():
    model = mlp()
    own = Preconditioner(model)
    for _ in range(20):
        model(drawn(4, 6))
    assert own._tracker.passes.waiting <= 8


def test_evaluation_and_paused_passes_are_not_seen():
    model = mlp()
    own = Preconditioner(model)
    with torch.no_grad():
        model(drawn(4, 6))
    with own.paused():
        F.cross_entropy(model(drawn(4, 6)), labels(4)).backward()
    assert not own._tracker.has_statistics
    F.cross_entropy(model.eval()(drawn(4, 6)), labels(4)).backward()
    assert own._tracker.has_statistics


IN_PLACE = {
    "of words": (lambda: nn.Linear(4, 6), nn.Identity, 6, drawn(5, 7, 4)),
    "of rows": (lambda: nn.Linear(4, 6), nn.Identity, 6, drawn(5, 4)),
    "one axis": (lambda: nn.Conv1d(4, 6, 2), nn.Flatten, 36, drawn(5, 4, 7)),
    "images": (lambda: nn.Conv2d(4, 6, 2), nn.Flatten, 24, drawn(5, 4, 3, 3)),
}


@pytest.mark.parametrize("mode", ["gradients", "empirical"])
@pytest.mark.parametrize("kind", IN_PLACE)
def test_outputs_may_be_changed_in_place(kind, mode):
    """PyTorch takes a view that is changed out of the graph; of words it is one."""
    layer, then, size, x = IN_PLACE[kind]
    found = []
    for inplace in (False, True):
        model = seeded(
            lambda inplace=inplace: nn.Sequential(
                layer(), nn.ReLU(inplace=inplace), then(), nn.Linear(size, 3)
            )
        )
        own = Preconditioner(model, damping=0.1, mode=mode)
        outputs = model(x).reshape(-1, 3)
        F.cross_entropy(outputs, labels(len(outputs))).backward()
        own.step()
        found.append(gradients(model))
    same(*found)
