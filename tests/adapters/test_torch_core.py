"""One model and one batch in NumPy and in PyTorch: the same numbers at every step."""

import pytest
import torch
from torch import nn
from torch_models import same
from torch_twins import MODELS, Twins

import kfac_core as kc
from kfac_adapters.torch import KFAC, Preconditioner

F = nn.functional


def closure_of(model, optimizer, x, y):
    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", MODELS)
def test_factors_and_preconditioned_gradients(name):
    twins = Twins(name)
    batch, x, y = twins.batch()
    estimator = kc.FisherEstimator(twins.collection(), "exact")
    given = twins.model.linearize(twins.params, batch)
    state = estimator.update_covs(estimator.init(twins.params), given, 0.95)
    state = estimator.update_inverses(state, 0.1)
    gradient = kc.registered_losses.mean_gradient(estimator.layer_collection, given)
    expected = estimator.multiply_inverse(state, gradient)
    own = Preconditioner(twins.module, mode="exact", damping=0.1)
    F.cross_entropy(twins.module(x), y).backward()
    own.step()
    found = [param.grad for param in twins.module.parameters()]
    same(found, map(torch.as_tensor, twins.of_torch(expected)))
    for block, twin in zip(
        own._tracker.state.blocks.values(), state.blocks.values(), strict=True
    ):
        for side in ("input_factor", "output_factor"):
            cov, other = getattr(block, side).cov, getattr(twin, side).cov
            same([cov.total], [torch.as_tensor(other.total)])


FORMS = {
    "regular": ({"lr": 0.2, "norm_constraint": 1e-2, "weight_decay": 0.01}, {}),
    "adapted": ({"lr": 0.2, "adapt_damping": True, "adapt_every": 3}, {}),
    "adam": ({"lr": 0.2, "momentum_type": "adam"}, {}),
    "qmodel": ({"momentum_type": "qmodel", "adapt_damping": True}, {}),
    "qmodel_fixedmu": ({"momentum_type": "qmodel_fixedmu", "lr": 0.5}, {}),
}
NAMES = {
    "lr": "learning_rate",
    "adapt_every": "damping_adaptation_interval",
    "weight_decay": "weight_decay_coeff",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_twenty_steps_are_those_of_the_core(name, form):
    options, _ = FORMS[form]
    twins = Twins(name)
    of_core = {NAMES.get(key, key): value for key, value in options.items()}
    of_core.setdefault("momentum_type", "regular")
    if form.startswith("qmodel"):
        of_core["qmodel_update_rescale"] = of_core.pop("learning_rate", None)
    core = kc.KfacOptimizer(
        twins.model,
        twins.collection(),
        estimation_mode="exact",
        damping=0.3,
        cov_update_every=2,
        invert_every=3,
        **of_core,
    )
    optimizer = KFAC(
        twins.module,
        damping=0.3,
        mode="exact",
        cov_every=2,
        invert_every=3,
        **options,
    )
    state, params = core.init(twins.params), twins.params
    dampings = set()
    for step in range(20):
        batch, x, y = twins.batch(7 if step == 5 else 16)
        state, params, statistics = core.step(state, params, batch)
        loss = optimizer.step(closure_of(twins.module, optimizer, x, y))
        assert loss.item() == pytest.approx(float(statistics.loss), rel=1e-8)
        dampings.add(float(state.damping))
        damping = optimizer.param_groups[0]["damping"]
        assert damping == pytest.approx(float(state.damping), rel=1e-12)
    moved = list(twins.module.parameters())
    same(moved, map(torch.as_tensor, twins.of_torch(params)), rtol=1e-8)
    assert (len(dampings) > 1) == options.get("adapt_damping", False)
    start = Twins(name).module.parameters()
    assert not any(torch.allclose(p, q) for p, q in zip(moved, start, strict=True))
