"""The optimiser and the preconditioner: their steps, losses and training."""

import io

import pytest
import torch
from torch import nn
from torch_models import TiedLM, drawn, gradients, labels, mlp, same, seeded, train

import kfac_core as kc
from kfac_adapters.torch import KFAC, Preconditioner
from kfac_core.errors import ArgumentError, StateError, UnsupportedError

F = nn.functional


def step_of(model, x, y, loss_of, **options):
    """Gradients and preconditioned ones, of one pass."""
    model.zero_grad()
    own = Preconditioner(model, damping=0.1, **options)
    loss_of(model(x), y).backward()
    raw = gradients(model)
    own.step()
    own.remove()
    return raw, gradients(model)


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


@pytest.mark.parametrize("mode", ["empirical", "exact"])
def test_passes_that_ignore_other_shares_of_rows_are_one_batch(mode):
    """Each pass counts by its rows that are not ignored, for inputs and gradients."""
    model, x, y = mlp(), drawn(16, 6), labels(16)
    y[:1], y[9:14] = -100, -100
    found = []
    for parts in ([slice(0, 16)], [slice(0, 8), slice(8, 16)]):
        model.zero_grad()
        own = Preconditioner(model, damping=0.1, mode=mode)
        for part in parts:
            loss = F.cross_entropy(model(x[part]), y[part], reduction="sum")
            (loss / 10).backward()
        own.step()
        found.append(gradients(model))
        own.remove()
    same(*found)


def test_a_sum_over_the_rows_of_several_passes_is_refused():
    """How many rows it is over is not known when the first pass is folded in."""
    model, x, y = mlp(), drawn(16, 6), labels(16)
    own = KFAC(model, reduction="sum", loss="cross_entropy")
    F.cross_entropy(model(x[:8]), y[:8], reduction="sum").backward()
    with pytest.raises(UnsupportedError, match="reduction is 'sum'"):
        F.cross_entropy(model(x[8:]), y[8:], reduction="sum").backward()
    own.step()  # the next step has passes of its own
    F.cross_entropy(model(x), y, reduction="sum").backward()
    own.step()


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


def test_statistics_of_a_share_are_those_of_its_cases():
    model, x, y = mlp(), drawn(16, 6), labels(16)
    _, found = step_of(
        model, x, y, F.cross_entropy, mode="empirical", statistics_share=0.5
    )
    raw, _ = step_of(model, x, y, F.cross_entropy, mode="empirical")
    own = Preconditioner(model, damping=0.1, mode="empirical")
    model.zero_grad()
    F.cross_entropy(model(x[::2]), y[::2]).backward()
    for param, gradient in zip(model.parameters(), raw, strict=True):
        param.grad = gradient
    own.step()
    same(found, gradients(model))
