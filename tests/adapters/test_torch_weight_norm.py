"""Weights of a length and a direction, against the same layer without these."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch_models import assert_same, drawn, labels, matrix, same, seeded, statistics

from kfac_adapters.torch import KFAC, Preconditioner
from kfac_core.errors import RegistrationError, UnsupportedError

F = nn.functional


def old_norm(layer, dim=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer, dim=dim)


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), drawn(12, 4)),
    "conv": (lambda: nn.Conv1d(4, 3, 2), drawn(12, 4, 2)),
    "grouped": (lambda: nn.Conv1d(4, 6, 2, groups=2), drawn(12, 4, 2)),
    "transposed": (lambda: nn.ConvTranspose1d(4, 3, 1), drawn(12, 4, 1)),
}
NORMS = {"new": parametrizations.weight_norm, "old": old_norm}


def both(kind, norm="new", dim=0):
    """The same model, with a norm and without."""
    make, x = LAYERS[kind]

    def model():
        return nn.Sequential(make(), nn.Flatten())

    plain, normed = seeded(model), seeded(model)
    NORMS[norm](normed[0], dim=dim)
    g, v = parts(normed[0])
    with torch.no_grad():
        g.mul_(-1.5)  # other lengths than those of the directions
        plain[0].weight.copy_(made(g, v, dim))
    return plain, normed, x


def made(g, v, dim):
    """The weight of a length and a direction."""
    return torch._weight_norm(v, g, -1 if dim is None else dim)


def parts(layer):
    """The length and the direction of a layer."""
    found = dict(layer.named_parameters())
    by_end = {name.rpartition(".")[2]: x for name, x in found.items()}
    own = [("original0", "weight_g"), ("original1", "weight_v")]
    return [next(by_end[name] for name in names if name in by_end) for names in own]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_step_of_the_weight_is_that_without_a_norm(kind, norm, dim):
    if norm == "old" and dim is None:
        dim = -1  # as PyTorch itself says it
    plain, normed, x = both(kind, norm, dim)
    y = labels(len(x))
    for model in (plain, normed):
        own = Preconditioner(model, damping=0.1, norm_constraint=1e-3)
        F.cross_entropy(model(x), y).backward()
        own.step(learning_rate=1.0)
        assert own.coverage.share == 1.0
    g, v = parts(normed[0])

    own = [x.detach() for x in (g, v)]
    _, step = torch.autograd.functional.jvp(
        lambda *own: made(*own, dim), tuple(own), (g.grad, v.grad)
    )
    same([step, normed[0].bias.grad], [plain[0].weight.grad, plain[0].bias.grad])


def test_statistics_are_those_of_the_weight():
    plain, normed, x = both("linear")
    a, b = (
        matrix(*statistics(model, x)[1:], "0.weight")[1] for model in (plain, normed)
    )
    assert_same(a, b)


def test_weight_of_no_length_takes_finite_steps():
    _, model, x = both("linear")
    with torch.no_grad():
        parts(model[0])[0][1] = 0.0
    own = Preconditioner(model, damping=0.1)
    F.cross_entropy(model(x), labels(12)).backward()
    own.step()
    g, v = parts(model[0])
    assert g.grad.isfinite().all()
    assert v.grad.isfinite().all()
    assert (v.grad[1] == 0).all()
    assert g.grad[1].abs() > 0


def test_training_and_groups_are_those_of_other_layers():
    _, model, x = both("linear")
    y, losses = labels(12), []
    optimizer = KFAC(model, lr=0.5, damping=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert "0.parametrizations.weight.original1" in str(optimizer.coverage)


def test_frozen_length_is_no_layer():
    _, model, x = both("linear")
    parts(model[0])[0].requires_grad_(False)
    with pytest.raises(RegistrationError, match="original1' is used by _weight_norm"):
        statistics(model, x)


def test_direction_that_something_else_uses_is_no_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = parametrizations.weight_norm(nn.Linear(4, 3))

        def forward(self, x):
            v = self.layer.parametrizations.weight.original1
            return self.layer(x) + v.square().sum()

    with pytest.raises(
        RegistrationError, match=r"'layer\.parametrizations\.weight\.orig"
    ):
        statistics(seeded(Twice), drawn(12, 4))


def test_steps_by_a_quadratic_model_name_the_parametrization():
    _, model, x = both("linear")
    optimizer = KFAC(model, damping=0.1, momentum_type="qmodel")
    F.cross_entropy(model(x), labels(12)).backward()
    with pytest.raises(UnsupportedError, match=r"original0 and .*original1; leave"):
        optimizer.step()
