"""Weights that a model makes of a parameter alone, against truth by autograd."""

import pytest
import torch
from torch import nn
from torch_models import (
    assert_same,
    dense_fisher,
    drawn,
    labels,
    matrix,
    seeded,
    statistics,
)

from kfac_adapters.torch import KFAC, Preconditioner
from kfac_core.errors import RegistrationError

F = nn.functional
INPUTS, OUTPUTS = drawn(1, 4) + 2, drawn(5, 1) + 2
MASK = (drawn(5, 4) > 0).double()


class Model(nn.Module):
    """A layer of parameters that are drawn, and a linear layer."""

    def __init__(self, layer, shapes, size):
        super().__init__()
        self.layer = layer
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))
        self.head = nn.Linear(size, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(self, x)).flatten(1))


AFFINE, X = {"w": (5, 4), "b": (5,)}, drawn(1, 4)
KERNEL, GROUPED = {"w": (5, 4, 2), "b": (5,)}, {"w": (6, 2, 2), "b": (6,)}
LAYERS = {
    "1 - w": (lambda m, x: F.linear(x, 1 - m.w, m.b), AFFINE, X),
    "2 w": (lambda m, x: F.linear(x, 2 * m.w, m.b), AFFINE, X),
    "a quotient of a transpose": (
        lambda m, x: x @ (m.w.T / 3.0) + m.b,
        AFFINE,
        X,
    ),
    "by inputs": (lambda m, x: F.linear(x, m.w * INPUTS, m.b), AFFINE, X),
    "by outputs": (lambda m, x: F.linear(x, OUTPUTS * m.w, m.b), AFFINE, X),
    "by both": (
        lambda m, x: F.linear(x, 1 - OUTPUTS * m.w * INPUTS, m.b),
        AFFINE,
        X,
    ),
    "a bias": (lambda m, x: F.linear(x, m.w, m.b.exp()), AFFINE, X),
    "a kernel": (
        lambda m, x: F.conv1d(x, m.w * OUTPUTS[..., None] * INPUTS[..., None], m.b),
        KERNEL,
        drawn(1, 4, 2),
    ),
    "a transposed kernel": (
        lambda m, x: F.conv_transpose1d(x, m.w * INPUTS.mT[..., None], m.b),
        {"w": (4, 5, 1), "b": (5,)},
        drawn(1, 4, 1),
    ),
    "a table": (
        lambda m, x: F.embedding(x, m.w * MASK),
        {"w": (5, 4)},
        torch.tensor([2]),
    ),
    "columns": (lambda m, x: m.w[:, x].mT, {"w": (4, 5)}, torch.tensor([2])),
    "selected columns": (
        lambda m, x: m.w.index_select(1, x).mT,
        {"w": (4, 5)},
        torch.tensor([2]),
    ),
    "columns of a product": (
        lambda m, x: (m.w * MASK.mT)[:, x].mT,
        {"w": (4, 5)},
        torch.tensor([2]),
    ),
    "a scale, as of Mamba": (
        lambda m, x: x * (-torch.exp(m.w))[None],
        {"w": (3, 4)},
        drawn(6, 3, 4),
    ),
    "a scale, as of Swin": (
        lambda m, x: x * torch.clamp(m.w, max=4.0).exp(),
        {"w": (3, 1)},
        drawn(6, 3, 4),
    ),
    "heads": (
        lambda m, x: torch.einsum("nd,dhk->nhk", x, m.w),
        {"w": (4, 2, 3)},
        X,
    ),
    "heads, summed": (
        lambda m, x: torch.einsum("ohk,nkh->no", m.w, x),
        {"w": (5, 2, 3)},
        drawn(1, 3, 2),
    ),
    "heads of any axes": (
        lambda m, x: torch.einsum("...d,hdk->...hk", x, m.w),
        {"w": (2, 4, 3)},
        X,
    ),
    "one number": (lambda m, x: x * m.w.exp() + m.b, {"w": (), "b": ()}, drawn(6, 4)),
    "a quotient": (lambda m, x: x / m.w.exp(), {"w": (4,)}, drawn(6, 4)),
    "a quotient of it": (lambda m, x: m.w / (x**2 + 1), {"w": (4,)}, drawn(6, 4)),
    "differences": (
        lambda m, x: (x - m.w) - (m.b - x.sin()),
        {"w": (4,), "b": (4,)},
        drawn(6, 4),
    ),
    "a shift": (lambda m, x: x + F.softplus(m.w), {"w": (4,)}, drawn(6, 4)),
    "of a norm": (
        lambda m, x: F.layer_norm(x, (4,), m.w.exp(), 2 * m.b),
        {"w": (4,), "b": (4,)},
        drawn(6, 4),
    ),
}


ORDERS = {"heads, summed": (1, 2, 0), "heads of any axes": (1, 0, 2)}


def made(kind):
    layer, shapes, x = LAYERS[kind]
    with torch.no_grad(), torch.random.fork_rng():
        size = layer(Model(layer, shapes, 1).double(), x).flatten(1).shape[1]
    return seeded(lambda: Model(layer, shapes, size)), x


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_has_the_fisher_of_the_parameter(kind):
    model, x = made(kind)
    captured, *own = statistics(model, x)
    assert captured.coverage.share == 1.0
    for layer in captured.collection.layers:
        if layer.params[0].startswith("head"):
            continue
        names, found = matrix(*own, layer.params[0])
        exact = dense_fisher(model, x, names)
        if kind in ORDERS:  # the core has the summed axes first
            axes = torch.arange(model.w.numel()).reshape(model.w.shape)
            order = axes.permute(ORDERS[kind]).flatten()
            exact = exact[order][:, order]
        if "Diagonal" in type(layer.block).__name__:
            found, exact = found.diagonal(), exact.diagonal()
        assert_same(found, exact)


def test_kernel_in_groups_has_the_statistics_of_what_is_made_of_it():
    each = torch.arange(1.0, 7.0, dtype=torch.float64)[:, None, None]
    x, shapes = drawn(5, 4, 3), {"w": (6, 2, 2)}

    def model(factor):
        def layer(m, x):
            return F.conv1d(x, m.w * factor, groups=2)

        return seeded(lambda: Model(layer, shapes, 12))

    scaled, plain = model(each), model(torch.ones(6, 1, 1, dtype=torch.float64))
    with torch.no_grad():
        plain.w.mul_(each)
    a, b = (matrix(*statistics(own, x)[1:], "w")[1] for own in (scaled, plain))
    d = each.expand(6, 2, 2).flatten()
    assert_same(a, d[:, None] * b * d)


def test_step_of_heads_is_that_of_the_matrix():
    x, y = drawn(6, 4), labels(6)

    def step(layer, shape):
        model = seeded(lambda: Model(layer, {"w": shape}, 6))
        own = Preconditioner(model, damping=0.1, norm_constraint=1e-3)
        F.cross_entropy(model(x), y).backward()
        own.step(learning_rate=1.0)
        return model.w.grad

    heads = step(lambda m, x: torch.einsum("nd,dhk->nhk", x, m.w), (4, 2, 3))
    assert_same(heads.flatten(1), step(lambda m, x: x @ m.w, (4, 6)))


def test_heads_that_are_used_otherwise_are_named():
    def layer(m, x):
        return torch.einsum("nd,dhk->nhk", x, m.w) * m.w.sum()

    model = seeded(lambda: Model(layer, {"w": (4, 2, 3)}, 6))
    with pytest.raises(RegistrationError, match=r"'w'.*sum"):
        statistics(model, drawn(3, 4))


UNLIKE = {"a mask": lambda w: w * MASK, "exp": torch.exp}


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_leaves_no_kronecker_product_is_named_and_has_its_policy(kind):
    def layer(m, x):
        return F.linear(x, UNLIKE[kind](m.w), m.b)

    model, x = seeded(lambda: Model(layer, AFFINE, 5)), drawn(6, 4)
    match = r"^1 parameters .*'w' is of a linear: .*no Kronecker product.*'diagonal'"
    with pytest.raises(RegistrationError, match=match):
        statistics(model, x)
    optimizer = KFAC(model, 0.3, 0.1, unclaimed="diagonal")
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels(6))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert "diagonal of the summed gradient" in str(optimizer.coverage)


def test_factors_are_those_of_the_parameter_at_each_pass():
    """They change in training, as the derivative of an exponential does."""
    model, x = made("a scale, as of Mamba")
    captured, estimator, _ = statistics(model, x)
    with torch.no_grad():
        model.w.add_(0.5)
    state = estimator.init(captured.variables)
    state = estimator.update_covs(state, captured.linearize(x), 0.0)
    names, found = matrix(estimator, state, "w")
    assert_same(found.diagonal(), dense_fisher(model, x, names).diagonal())
