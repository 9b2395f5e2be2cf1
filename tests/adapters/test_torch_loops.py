"""What training loops do: scale and clip, freeze and thaw, schedule, copy and save."""

import copy
import io
import pickle
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch_models import drawn, gradients, labels, mlp, same, seeded, train

import kfac_core as kc
from kfac_adapters.torch import KFAC, Preconditioner, capture
from kfac_core.errors import ArgumentError, UnsupportedError

F = nn.functional


def values(model):
    return [p.detach().clone() for p in model.parameters()]


def step_of(model, optimizer, x=None):
    optimizer.zero_grad()
    x = drawn(16, 6) if x is None else x
    F.cross_entropy(model(x), labels(16)).backward()
    optimizer.step()


def arrays(optimizer):
    return [x.clone() for x in kc.tree.leaves(optimizer._tracker.state)]


def test_a_step_that_is_not_finite_changes_nothing_and_says_so():
    model = mlp()
    optimizer = KFAC(model, lr=0.1)
    step_of(model, optimizer)
    assert optimizer.last_step.taken
    before, known = values(model), arrays(optimizer)
    velocity = [optimizer.state[p]["velocity"].clone() for p in model.parameters()]
    model[0].weight.grad[0, 0] = float("inf")
    with pytest.warns(RuntimeWarning, match=r"a step was not taken.*0\.weight"):
        optimizer.step()
    assert not optimizer.last_step.taken
    assert "0.weight" in optimizer.last_step.reason
    optimizer.step()  # it is said once
    assert all(map(torch.equal, before, values(model)))
    assert all(map(torch.equal, known, arrays(optimizer)))
    now = [optimizer.state[p]["velocity"] for p in model.parameters()]
    assert all(map(torch.equal, velocity, now))
    step_of(model, optimizer)
    assert optimizer.last_step.taken
    assert not torch.equal(before[0], model[0].weight)


@pytest.mark.parametrize("mode", ["gradients", "empirical"])
@pytest.mark.parametrize("type_", ["regular", "qmodel"])
def test_a_batch_that_is_not_finite_is_skipped_from_the_first(mode, type_):
    model = mlp()
    optimizer = KFAC(model, mode=mode, momentum_type=type_)
    bad = drawn(16, 6)
    bad[3, 3] = float("nan")
    before = values(model)
    with pytest.warns(RuntimeWarning, match="a step was not taken"):
        step_of(model, optimizer, bad)
    step_of(model, optimizer, bad)
    assert all(map(torch.equal, before, values(model)))
    step_of(model, optimizer)
    assert optimizer.last_step.taken
    known = arrays(optimizer)
    step_of(model, optimizer, bad)
    assert all(map(torch.equal, known, arrays(optimizer)))


@pytest.mark.parametrize("mode", ["gradients", "empirical"])
def test_a_scaler_of_gradients_finds_its_scale(mode):
    plain, model = mlp().float(), mlp().float()
    options = {"lr": 0.1, "damping": 0.1, "mode": mode}
    alone, optimizer = KFAC(plain, **options), KFAC(model, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    x, taken = drawn(16, 6, dtype=torch.float32), 0
    with torch.no_grad():
        plain[2].weight.mul_(100)
        model[2].weight.mul_(100)
    for _ in range(200):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), labels(16))).backward()
        before = values(model)
        scaler.step(optimizer)
        scaler.update()
        taken += not torch.equal(before[0], model[0].weight)
        if taken == 3:
            break
    assert float(scaler.get_scale()) < 2.0**126
    for _ in range(3):
        alone.zero_grad()
        F.cross_entropy(plain(x), labels(16)).backward()
        alone.step()
    if mode == "empirical":  # nothing is drawn
        same(values(model), values(plain), rtol=1e-3)
    assert all(x.isfinite().all() for x in arrays(optimizer))


def statistics(model, loss_of, loss="cross_entropy", **options):
    own = Preconditioner(model, loss, **options)
    loss_of(model(drawn(16, 6))).backward()
    own.remove()
    return arrays(own)


def test_class_weights_weigh_the_rows_of_the_fisher():
    model, y = mlp(), labels(16)
    of_class = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    found = statistics(
        model, lambda z: F.cross_entropy(z, y, weight=of_class), mode="exact"
    )
    captured = capture(model, "cross_entropy")
    weights = of_class[y] / of_class[y].mean()
    given = captured.linearize(drawn(16, 6), mask=weights)
    estimator = kc.FisherEstimator(captured.collection, "exact")
    params = {n: p.detach() for n, p in model.named_parameters()}
    expected = estimator.update_covs(estimator.init(params), given, 0.95)
    same(found, kc.tree.leaves(expected))


@pytest.mark.parametrize("mode", ["exact", "empirical"])
def test_weighted_one_hot_targets_step_as_labels_times_the_mean_weight(mode):
    """PyTorch divides by the weights of labels, and by the cases of probabilities."""
    of_class, y = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64), labels(16)

    def step(targets):
        model = mlp()
        own = Preconditioner(model, "cross_entropy", damping=0.1, mode=mode)
        F.cross_entropy(model(drawn(16, 6)), targets, weight=of_class).backward()
        own.step()
        return gradients(model)

    found = step(F.one_hot(y, 3).double())
    same(found, [of_class[y].mean() * g for g in step(y)])
    assert abs(float(of_class[y].mean()) - 1) > 0.5


def test_smoothed_labels_have_the_fisher_of_labels():
    model, y = mlp(), labels(16)
    smoothed = statistics(model, lambda z: F.cross_entropy(z, y, label_smoothing=0.1))
    same(smoothed, statistics(model, lambda z: F.cross_entropy(z, y)))


def test_clipped_gradients_give_shorter_steps():
    model, other = mlp(), mlp()
    moves = []
    for own, limit in ((model, None), (other, 1e-3)):
        optimizer, before = KFAC(own, lr=0.1), values(own)
        F.cross_entropy(own(drawn(16, 6)), labels(16)).backward()
        norm = nn.utils.clip_grad_norm_(own.parameters(), limit or 1e9)
        optimizer.step()
        moves.append([a - b for a, b in zip(values(own), before, strict=True)])
    ratio = 1e-3 / (norm + 1e-6)
    same(moves[1], [ratio * move for move in moves[0]], rtol=1e-8)


def test_groups_come_later_and_are_of_the_model():
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = KFAC(model, lr=0.1, cov_every=3)
    step_of(model, optimizer)
    known = optimizer._tracker.state.blocks["2.weight+2.bias"]
    first = values(model)
    model[0].requires_grad_(True)
    optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.05})
    step_of(model, optimizer)
    assert "0.weight" in str(optimizer.coverage)
    assert not torch.equal(first[0], model[0].weight)
    later = optimizer._tracker.state.blocks["2.weight+2.bias"].input_factor.cov
    assert later.weight > known.input_factor.cov.weight  # what was known is kept
    with pytest.raises(ArgumentError, match="none of the model's"):
        optimizer.add_param_group({"params": nn.Linear(2, 2).parameters()})
    with pytest.raises(ArgumentError, match="lr is -1"):
        optimizer.add_param_group({"params": [], "lr": -1.0})


def test_layers_are_frozen_between_steps():
    model = mlp()
    optimizer = KFAC(model, lr=0.1, cov_every=2)
    for frozen in (False, True, True, False):
        model[0].requires_grad_(not frozen)
        before = values(model)
        step_of(model, optimizer)
        assert torch.equal(before[0], model[0].weight) == frozen
        assert not torch.equal(before[2], model[2].weight)


def test_one_cycle_schedules_rate_and_momentum():
    model = mlp()
    optimizer = KFAC(model, lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=10)
    seen = set()
    for _ in range(4):
        step_of(model, optimizer)
        schedule.step()
        group = optimizer.param_groups[0]
        seen.add((group["lr"], group["momentum"]))
    assert len({rate for rate, _ in seen}) == len({m for _, m in seen}) == 4


def test_copies_are_refused_by_name():
    optimizer = KFAC(mlp())
    for make in (copy.deepcopy, pickle.dumps):
        with pytest.raises(UnsupportedError, match="load_state_dict"):
            make(optimizer)


def test_gradients_that_are_zeroed_in_place_are_gradients():
    model, other = mlp(), mlp()
    for own, to_none in ((model, True), (other, False)):
        optimizer = KFAC(own, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad(set_to_none=to_none)
            F.cross_entropy(own(drawn(16, 6)), labels(16)).backward()
            optimizer.step()
    same(values(model), values(other), rtol=0)


def test_evaluation_of_a_model_trains_it_as_it_is():
    model = seeded(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    )
    model.eval()
    optimizer = KFAC(model, lr=0.05, damping=0.1)
    losses = train(model, optimizer, steps=10)
    assert losses[-1] < losses[0]
    assert not model.training
    assert int(model[1].num_batches_tracked) == 0


FORMS = {
    "regular": {"cov_every": 2, "invert_every": 3},
    "qmodel": {"momentum_type": "qmodel", "adapt_damping": True, "adapt_every": 2},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_run_goes_on_bit_for_bit_from_a_file(form, dtype):
    def steps(model, optimizer, numbers):
        for i in numbers:
            x, y = drawn(16, 6, seed=i, dtype=dtype), labels(16, seed=i)

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x).float(), y)
                loss.backward()
                return loss

            optimizer.step(closure)

    model, other = mlp().to(dtype), mlp().to(dtype)
    options = {"damping": 0.5, **FORMS[form]}
    optimizer, resumed = KFAC(model, **options), KFAC(other, **options)
    steps(model, optimizer, range(5))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, saved = torch.load(file, weights_only=True)
    other.load_state_dict(weights)
    resumed.load_state_dict(saved)
    steps(model, optimizer, range(5, 10))
    steps(other, resumed, range(5, 10))
    same(values(other), values(model), rtol=0)
    assert all(map(torch.equal, arrays(optimizer), arrays(resumed)))
    assert optimizer.state[model[0].weight]["velocity"].dtype != torch.bfloat16


def test_statistics_within_autocast_are_in_the_precision_of_the_model():
    model, other = mlp().float(), mlp().float()
    found = []
    for own, enabled in ((model, True), (other, False)):
        optimizer = KFAC(own, lr=0.1, mode="exact")
        loss = F.cross_entropy(own(drawn(16, 6, dtype=torch.float32)), labels(16))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss.backward()
            optimizer.step()
        found.append(arrays(optimizer))
    same(*found, rtol=0)


@pytest.mark.parametrize("adapts", [False, True])
def test_a_loop_within_one_autocast_sees_the_parameters_that_it_moved(adapts):
    """PyTorch's cache of casts is not told of a change: its SGD stays at one loss."""
    options = {"adapt_damping": True, "adapt_every": 1} if adapts else {}
    low = partial(torch.autocast, "cpu", torch.bfloat16)
    found = []
    for around, within in ((low, nullcontext), (nullcontext, low)):
        model = mlp().float()
        optimizer = KFAC(model, lr=0.1, damping=0.5, **options)

        def closure(model=model, optimizer=optimizer, within=within):
            optimizer.zero_grad()
            with within():
                outputs = model(drawn(16, 6, dtype=torch.float32))
                loss = F.cross_entropy(outputs, labels(16))
            loss.backward()
            return loss

        with around():
            found.append([optimizer.step(closure).item() for _ in range(4)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 4


def test_the_gradients_of_a_user_stay():
    model = mlp()
    optimizer = KFAC(model, lr=0.1, damping=0.5, adapt_damping=True, adapt_every=1)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(drawn(16, 6)), labels(16))
        loss.backward()
        closure.seen.append(gradients(model))
        return loss

    closure.seen = []
    optimizer.step(closure)
    assert len(closure.seen) == 2
    same(gradients(model), closure.seen[0], rtol=0)


@pytest.mark.parametrize("mode", ["gradients", "exact", "empirical"])
@pytest.mark.parametrize("loss", ["auto", "cross_entropy"])
@pytest.mark.parametrize("options", [{}, {"weight": torch.tensor([1.0, 2.0, 0.5])}])
def test_logarithms_of_probabilities_are_logits(options, loss, mode):
    """As of models that end in `log_softmax`, before `nll_loss`."""
    x, y, found = drawn(16, 6), labels(16), []
    y[3] = -100
    options = {name: own.double() for name, own in options.items()}
    for ends in ((), (nn.LogSoftmax(-1),)):
        model = nn.Sequential(*mlp(), *ends)
        own = Preconditioner(model, loss, damping=0.1, mode=mode)
        loss_of = F.nll_loss if ends else F.cross_entropy
        loss_of(model(x), y, **options).backward()
        own.step()
        found.append(gradients(model))
    same(*found)


def test_logarithms_of_probabilities_of_pixels_have_their_axis():
    x, y, found = drawn(2, 6, 4, 3), labels(2, 4, 3), []
    for ends in ((), (nn.LogSoftmax(1),)):
        model = seeded(lambda ends=ends: nn.Sequential(nn.Conv2d(6, 3, 1), *ends))
        own = Preconditioner(model, damping=0.1)
        (F.nll_loss if ends else F.cross_entropy)(model(x), y).backward()
        own.step()
        assert own._tracker.capture.class_axis == 1
        found.append(gradients(model))
    same(*found)
