"""The optimiser and the preconditioner, in the loops that users have."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch_models import TiedLM, drawn, labels, seeded

import kfac_core as kc
from kfac_adapters.torch import KFAC, Preconditioner
from kfac_core.errors import ArgumentError, StateError, UnsupportedError

F = nn.functional


def mlp():
    return seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def step_of(model, x, y, loss_of, **options):
    """Gradients and preconditioned ones, of one pass."""
    model.zero_grad()
    own = Preconditioner(model, damping=0.1, **options)
    loss_of(model(x), y).backward()
    raw = gradients(model)
    own.step()
    own.remove()
    return raw, gradients(model)


def same(found, expected, rtol=1e-10):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=1e-13)


def test_step_is_that_of_the_core_by_hand():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    raw, found = step_of(model, x, y, F.cross_entropy, mode="empirical")
    logits = model(x)
    outs, ins = {}, {}
    for name, at in (("0", x), ("2", torch.tanh(model[0](x)).detach())):
        ins[name] = at
    hidden = model[0](x)
    logits = model[2](torch.tanh(hidden))
    summed = F.cross_entropy(logits, y, reduction="sum")
    outs["0"], outs["2"] = torch.autograd.grad(summed, [hidden, logits])
    expected = []
    for name, w, b in (("0", *raw[:2]), ("2", *raw[2:])):
        block = kc.blocks.FullyConnectedKFACBasicFB(
            w.shape[1], w.shape[0], has_bias=True, layout="out_in"
        )
        state = block.update_covs(block.init(w), ins[name], outs[name], 0.95)
        state = block.update_inverses(state, 0.1)
        expected += block.multiply_inverse(state, (w, b))
    same(found, expected)


def summed(logits, y):
    return F.cross_entropy(logits, y, reduction="sum")


def test_sum_is_a_mean_of_less_damping():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    _, of_sum = step_of(model, x, y, summed, reduction="sum")
    model.zero_grad()
    own = Preconditioner(model, damping=0.1 / 16)
    F.cross_entropy(model(x), y).backward()
    own.step()
    same(of_sum, gradients(model))


def test_ignored_rows_are_as_if_they_were_not_there():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    padded = torch.cat([y, torch.full((4,), -100)])
    _, with_padding = step_of(
        model,
        torch.cat([x, drawn(4, 6, seed=9)]),
        padded,
        F.cross_entropy,
        mode="empirical",
    )
    _, without = step_of(model, x, y, F.cross_entropy, mode="empirical")
    same(with_padding, without)


def test_scaled_losses_of_parts_have_the_statistics_of_a_mean():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    _, whole = step_of(model, x, y, F.cross_entropy)
    _, scaled = step_of(model, x, y, lambda z, y: 0.25 * F.cross_entropy(z, y))
    same(scaled, [0.25 * x for x in whole])


def test_mean_over_entries_is_that_of_the_function():
    model, x, y = mlp(), drawn(16, 6), drawn(16, 3, seed=3)
    of_entries = kc.losses.NormalMeanNegativeLogProbLoss(0.5 * 3)  # their mean
    _, found = step_of(model, x, y, F.mse_loss, loss="mse_loss")
    _, expected = step_of(model, x, y, F.mse_loss, loss=of_entries)
    same(found, expected)


def test_binary_loss_is_recognised():
    model, x = mlp(), drawn(16, 6)
    y = (drawn(16, 3, seed=3) > 0).double()
    name = "binary_cross_entropy_with_logits"
    _, found = step_of(model, x, y, getattr(F, name), loss="auto")
    _, expected = step_of(model, x, y, getattr(F, name), loss=name)
    same(found, expected)


def test_unknown_loss_is_refused():
    model, x = mlp(), drawn(16, 6)
    own = Preconditioner(model)
    with pytest.raises(UnsupportedError, match=r"loss is 'auto'"):
        F.mse_loss(model(x), drawn(16, 3, seed=3)).backward()
    own.remove()


def test_bounded_step_has_the_norm():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    raw, free = step_of(model, x, y, F.cross_entropy)
    own = Preconditioner(model, damping=0.1, norm_constraint=1e-3)
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    with pytest.raises(ArgumentError, match=r"learning_rate"):
        own.step()
    own.step(learning_rate=0.5)
    bounded = gradients(model)
    norm = sum(0.25 * (g * d).sum() for g, d in zip(raw, bounded, strict=True))
    free_norm = sum(0.25 * (g * d).sum() for g, d in zip(raw, free, strict=True))
    assert free_norm > 1e-3
    ratio = (1e-3 / free_norm).sqrt()
    same(bounded, [ratio * x for x in free])
    assert norm < free_norm


def train(model, optimizer, steps=40, batch=64):
    key, losses = torch.Generator().manual_seed(3), []
    x = drawn(256, 6, dtype=next(model.parameters()).dtype)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()
    for _ in range(steps):
        i = torch.randint(256, (batch,), generator=key)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[i]), y[i])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_beats_the_same_optimiser_without_curvature():
    plain, own = mlp(), mlp()
    options = {"lr": 0.1, "momentum": 0.9}
    with_curvature = train(own, KFAC(own, damping=0.03, **options))
    without = train(plain, torch.optim.SGD(plain.parameters(), **options))
    assert sum(with_curvature[-5:]) < 0.8 * sum(without[-5:])


def test_state_goes_through_a_file_of_weights_only():
    first, second = mlp(), mlp()
    options = {"lr": 0.05, "damping": 0.1, "invert_every": 3, "cov_every": 2}
    whole = KFAC(first, **options)
    train(first, whole, steps=5)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "own": whole.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second.load_state_dict(saved["model"])
    resumed = KFAC(second, **options)
    resumed.load_state_dict(saved["own"])
    assert train(first, whole, steps=6) == train(second, resumed, steps=6)
    other = seeded(lambda: nn.Linear(6, 3))
    of_another = KFAC(other, **options)
    of_another._tracker.load_state_dict(saved["own"]["kfac"])
    with pytest.raises(StateError, match=r"other layers"):
        F.cross_entropy(other(drawn(4, 6)), labels(4)).backward()
    of_another.remove()


def test_groups_have_learning_rates_of_their_own_and_schedules():
    model = mlp()
    groups = [
        {"params": model[0].parameters(), "lr": 0.0, "damping": 1.0},
        {"params": model[2].parameters()},
    ]
    optimizer = KFAC(model, lr=0.1, params=groups, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, steps=1)
    after = [p.detach().clone() for p in model.parameters()]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[2], after[2])
    schedule.step()
    train(model, optimizer, steps=1)
    assert all(map(torch.equal, after, [p.detach() for p in model.parameters()]))


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
        assert not optimizer._tracker._pending
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
    assert own._tracker._state is None
    loss.backward()
    own.step()


def test_smoothed_labels_are_no_labels():
    model = mlp().float()
    own = Preconditioner(model)
    logits = model(drawn(16, 6, dtype=torch.float32))
    loss = F.cross_entropy(logits, labels(16), label_smoothing=0.05)
    with pytest.raises(UnsupportedError, match="loss is 'auto'"):
        loss.backward()
    own.remove()


def test_certain_cases_have_their_loss_recognised():
    model, x = mlp().float(), drawn(16, 6, dtype=torch.float32)
    with torch.no_grad():
        model[2].weight.mul_(100)
    own = Preconditioner(model)
    logits = model(x)
    F.cross_entropy(logits, logits.argmax(-1)).backward()
    own.step()
    own.remove()


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
    assert len(own._tracker._pending) <= 8


def test_evaluation_and_paused_passes_are_not_seen():
    model = mlp()
    own = Preconditioner(model)
    with torch.no_grad():
        model(drawn(4, 6))
    with own.paused():
        F.cross_entropy(model(drawn(4, 6)), labels(4)).backward()
    assert own._tracker._state is None
    F.cross_entropy(model.eval()(drawn(4, 6)), labels(4)).backward()
    assert own._tracker._state is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, None], ids=["model", "autocast"])
def test_half_precision_has_statistics_of_single(dtype):
    model = mlp().to(dtype or torch.float32)
    optimizer = KFAC(model, lr=0.05, damping=0.1)
    x, y = drawn(16, 6, dtype=dtype or torch.float32), labels(16)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is None):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    arrays = kc.tree.leaves(optimizer._tracker.state)
    assert {a.dtype for a in arrays if a.is_floating_point()} == {torch.float32}
    assert all(p.dtype == (dtype or torch.float32) for p in model.parameters())


def test_tied_transformer_trains():
    model = seeded(TiedLM)
    optimizer = KFAC(model, lr=0.1, damping=0.1, norm_constraint=1e-2)
    ids, losses = labels(4, 6, classes=11), []
    for _ in range(15):
        optimizer.zero_grad()
        logits = model(ids)
        loss = F.cross_entropy(logits.flatten(0, 1), ids.roll(-1, 1).flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert "TiedWeightsKFACFB" in str(optimizer.coverage)
