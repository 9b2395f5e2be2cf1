"""What is captured of unmodified models equals dense truth by autograd."""

import pytest
import torch
from torch import nn
from torch_models import (
    Loop,
    ResNet,
    TiedLM,
    assert_same,
    dense_fisher,
    drawn,
    matrix,
    seeded,
    statistics,
)

from kfac_adapters.torch import capture

F = nn.functional


ONE_LOCATION = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "one axis": lambda: nn.Conv1d(4, 6, 3),
    "three axes": lambda: nn.Conv3d(4, 6, 3),
    "dilated": lambda: nn.Conv2d(4, 6, 2, dilation=2),
    "without bias": lambda: nn.Conv2d(4, 6, 3, bias=False),
    "string padding": lambda: nn.Conv2d(4, 6, 3, padding="valid"),
}


@pytest.mark.parametrize("kind", ONE_LOCATION)
def test_convolution_with_one_location_and_case_is_exact(kind):
    conv = ONE_LOCATION[kind]()
    model = seeded(
        lambda: nn.Sequential(conv, nn.Flatten(), nn.Tanh(), nn.Linear(6, 3))
    )
    x = drawn(1, 4, *[3] * (conv.weight.ndim - 2))
    names, found = matrix(*statistics(model, x)[1:], "0.weight")
    expected = dense_fisher(model, x, names)
    if kind == "grouped":  # the block has nothing between groups
        assert (found == 0).sum() == found.numel() / 2
        expected = torch.where(found == 0, 0.0, expected)
    assert_same(found, expected)


def test_linear_layer_under_a_squared_error_is_exact():
    model, x = seeded(lambda: nn.Linear(5, 3)), drawn(16, 5)
    names, found = matrix(*statistics(model, x, "mse_loss")[1:], "weight")
    assert_same(found, dense_fisher(model, x, names, "mse_loss"))


def test_several_cases_under_cross_entropy_are_not_exact():
    model, x = seeded(lambda: nn.Linear(5, 3)), drawn(16, 5)
    names, found = matrix(*statistics(model, x)[1:], "weight")
    exact = dense_fisher(model, x, names)
    assert (found - exact).norm() > 1e-3 * exact.norm()


@pytest.mark.parametrize("layer", [nn.LayerNorm, nn.RMSNorm])
def test_norm_has_the_diagonal_of_its_fisher(layer):
    model = seeded(lambda: nn.Sequential(layer(4), nn.Linear(4, 3)))
    x = drawn(5, 4)
    names, found = matrix(*statistics(model, x)[1:], "0.weight")
    assert_same(torch.diag(found), torch.diag(dense_fisher(model, x, names)))


def test_norm_of_positions_sums_those_of_a_case():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.out = nn.LayerNorm(4), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.norm(x)).mean(1)

    model, x = seeded(Pooled), drawn(5, 6, 4)
    names, found = matrix(*statistics(model, x)[1:], "norm.weight")
    assert_same(torch.diag(found), torch.diag(dense_fisher(model, x, names)))


@pytest.mark.parametrize(
    "norm", [lambda c: nn.GroupNorm(2, c), nn.BatchNorm2d], ids=["group", "batch"]
)
def test_norm_of_channels_has_the_diagonal_of_its_fisher(norm):
    model = seeded(
        lambda: nn.Sequential(norm(4), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3))
    ).eval()  # cases that a batch couples have no Jacobian of their own
    x = drawn(5, 4, 3, 3)
    names, found = matrix(*statistics(model, x)[1:], "0.weight")
    assert names == ("0.weight", "0.bias")
    assert_same(torch.diag(found), torch.diag(dense_fisher(model, x, names)))


def test_running_statistics_are_those_of_one_pass():
    model = seeded(lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)))
    other = seeded(lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)))
    x = drawn(5, 4)
    statistics(model, x)
    other(x)
    assert torch.equal(model[0].running_mean, other[0].running_mean)
    assert torch.equal(model[0].running_var, other[0].running_var)


def test_embedding_of_one_case_is_exact():
    model = seeded(lambda: nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 3)))
    ids = torch.tensor([2])
    names, found = matrix(*statistics(model, ids)[1:], "0.weight")
    assert_same(found, dense_fisher(model, ids, names))


def test_padding_of_an_embedding_counts_nothing():
    def made(**padding):
        layers = nn.Embedding(6, 4, **padding), nn.Flatten(), nn.Linear(12, 3)
        return seeded(lambda: nn.Sequential(*layers))

    model = made(padding_idx=-6)
    ids = torch.tensor([[0, 1, 2], [3, 0, 0], [4, 5, 0]])
    names, found = matrix(*statistics(model, ids)[1:], "0.weight")
    assert names == ("0.weight",)
    assert not found[:4].any()
    assert found[4:].any()


@pytest.mark.parametrize(
    ("x", "uses"),
    [(drawn(4, 3, 6), 3), (drawn(3, 4, 6), 3)],
    ids=["cases first", "positions first"],
)
def test_positions_that_a_model_pools_are_uses(x, uses):
    axis = x.shape.index(3)

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)).mean(axis))

    model = seeded(Pooled)
    captured, estimator, state = statistics(model, x)
    _, found = matrix(estimator, state, "a.weight")
    rows = torch.cat([x.reshape(-1, 6), torch.ones(12, 1, dtype=x.dtype)], 1)
    a = rows.T @ rows / 12
    layer = captured.linearize(x)
    g = pulled(estimator, layer)["a.weight"]
    cov = sum(torch.einsum("ntp,ntq->pq", one, one) for one in g) / 12
    # The bias is a column beside those of the weights, the last of all.
    product = uses * torch.kron(cov, a).reshape(5, 7, 5, 7)
    weights = product[:, :6, :, :6].reshape(30, 30)
    assert_same(found[:30, :30], weights)
    assert_same(found[30:, 30:], product[:, 6, :, 6])


def pulled(estimator, linearization):
    from kfac_core.estimator.sources import sources

    vectors = sources(estimator.layer_collection, linearization, "exact", {})
    each = [linearization.output_gradients(v) for v in vectors]
    return {site: [one[site] for one in each] for site in each[0]}


MODELS = {
    "loop": (Loop, drawn(4, 6)),
    "tied transformer": (TiedLM, torch.arange(12).reshape(2, 6) % 11),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True),
        drawn(3, 4, 6),
    ),
    "encoder layer, positions first": (
        lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0),
        drawn(4, 3, 6),
    ),
    "in place": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="circular"),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, padding="same", groups=4, dilation=2),
            nn.Flatten(),
            nn.Linear(36, 3),
        ),
        drawn(3, 2, 6, 6),
    ),
    "residual network": (ResNet, drawn(3, 2, 6, 6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_inputs_and_gradients_of_uses_make_the_gradient_of_each_weight(name):
    make, x = MODELS[name]
    model = seeded(make)
    captured = capture(model, "cross_entropy")
    given = captured.linearize(x)
    v = {"loss": drawn(*given.loss_inputs["loss"].shape, seed=5)}
    inputs, gradients = given.layer_inputs, given.output_gradients(v)
    truth = given.param_gradients(v)
    checked = 0
    for layer in captured.collection.layers:
        if not layer.towers:
            continue
        name, *_ = layer.params
        found = torch.zeros_like(truth[name])
        for site in layer.sites:
            x, g = inputs[site], gradients[site]
            found += of_weight(layer.block, name, x, g, truth[name].shape)
        assert_same(found, truth[name])
        checked += 1
    assert checked >= 2


def of_weight(block, name, x, g, shape):
    """The gradient of a weight from what a block is given."""
    if g.ndim - (len(shape) > 2) * (len(shape) - 2) > 2:
        x, g = x.flatten(0, 1), g.flatten(0, 1)
    if not x.is_floating_point():
        return torch.zeros(shape, dtype=g.dtype).index_add(0, x, g)
    if len(shape) == 1:
        return (x * g).sum(0)
    if len(shape) == 2:
        same = g.shape[-1] == shape[0]
        return g.T @ x if same else x.T @ g
    weight = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
    geometry = block.geometry
    padding = geometry.padding
    if isinstance(padding, str):
        padding = padding.lower()
    else:
        padding = tuple(before for before, _ in padding)
    steps = geometry.strides, padding, geometry.dilations, geometry.num_groups
    out = F.conv2d(x, weight, None, *steps)
    return torch.autograd.grad(out, weight, g)[0]


def test_capture_leaves_no_trace():
    model = seeded(
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 3))
    )
    model.train()
    random = torch.random.get_rng_state()
    statistics(model.eval(), drawn(3, 4))
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
