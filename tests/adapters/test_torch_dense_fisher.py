"""`dense_fisher` of attention and norm layers is that of autograd, and of differences.

A captured model tells of its layers nothing but products with its Jacobian. The other
truths know of no layers: `torch.func.jacrev` of each case's outputs, and central
differences of them.
"""

import numpy as np
import pytest
import torch
import torch_models
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_models import seeded

from kfac_adapters.torch import capture
from kfac_core.reference import case_gradients as rows_of_cases
from kfac_core.reference import dense_fisher

F = nn.functional
NORMS = {
    "layer": nn.LayerNorm,
    "layer, no shift": lambda width: nn.LayerNorm(width, bias=False),
    "root mean square": nn.RMSNorm,
    "group": lambda width: Groups(2, width),
    "batch, fixed": lambda width: Fixed(width),
}


class Groups(nn.GroupNorm):
    """Groups of the last axis, of each token."""

    def forward(self, x):
        return super().forward(x.flatten(0, 1)).reshape(x.shape)


class Fixed(nn.BatchNorm1d):
    """In evaluation mode, with means and variances that are not 0 and 1."""

    def __init__(self, width):
        super().__init__(width)
        self.running_mean += torch.linspace(-1, 1, width)
        self.running_var *= torch.linspace(0.5, 2, width)
        super().train(False)

    def train(self, mode=True):
        return self

    def forward(self, x):
        return super().forward(x.flatten(0, 1)).reshape(x.shape)


class Block(nn.Module):
    """One block of a transformer, pooled: norm, attention, sum, norm, head."""

    def __init__(self, norm, heads, classes, width=4):
        super().__init__()
        self.first = norm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.second = norm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        y = self.first(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(self.second(x)).mean(1)


def problem(norm, heads=2, classes=3, cases=3, tokens=4, seed=0, loss="cross_entropy"):
    model = seeded(lambda: Block(NORMS[norm], heads, classes))
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    with torch.no_grad():
        for param in model.parameters():  # biases that are zero hide errors
            param += 0.3 * drawn(*param.shape)
    y = torch.arange(cases) % classes
    y = y if loss == "cross_entropy" else drawn(cases, classes)
    return model, drawn(cases, tokens, 4), y


def captured_at(model, x, y, loss):
    """The collection of a model, its pass, and its parameters in their order."""
    captured = capture(model, loss)
    linearization = captured.linearize(x, targets=y)
    layers = captured.collection.layers
    return captured.collection, linearization, [n for own in layers for n in own.params]


def assert_near(found, expected):
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < 1e-10


def empirical(model, x, y, names, loss):
    """The gradients of the cases by autograd, as rows."""
    params = {n: p.detach() for n, p in model.named_parameters()}

    def of_case(own, x, y):
        out = functional_call(model, {**params, **own}, (x[None],))
        if loss == "mse_loss":
            return F.mse_loss(out, y[None], reduction="sum")
        return F.cross_entropy(out, y[None])

    own = {n: params[n] for n in names}
    found = vmap(grad(of_case), (None, 0, 0))(own, x, y)
    return torch.cat([found[n].flatten(1) for n in names], 1)


@given(
    norm=st.sampled_from([*NORMS]),
    loss=st.sampled_from(["cross_entropy", "mse_loss"]),
    heads=st.sampled_from([1, 2, 4]),
    classes=st.integers(2, 4),
    cases=st.integers(1, 4),
    tokens=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_it_is_that_of_autograd(norm, loss, heads, classes, cases, tokens, seed):
    model, x, y = problem(norm, heads, classes, cases, tokens, seed, loss)
    collection, made, names = captured_at(model, x, y, loss)
    with sdpa_kernel(SDPBackend.MATH):  # the others have no rule for `vmap`
        expected = torch_models.dense_fisher(model, x, names, loss)
        rows = empirical(model, x, y, names, loss)
    for kind in ("fisher", "ggn"):
        assert_near(dense_fisher(collection, made, kind=kind).matrix, expected)
    assert_near(rows_of_cases(collection, made), rows)
    found = dense_fisher(collection, made, kind="empirical").matrix
    assert_near(found, rows.mT @ rows / cases)


def differences(model, x, names, step):
    """The Jacobians of the cases' outputs, by central differences."""
    params, columns = dict(model.named_parameters()), []
    for name in names:
        flat = params[name].detach().view(-1)
        for place in range(len(flat)):
            before, ends = flat[place].clone(), []
            for side in (step, -step):
                flat[place] = before + side
                ends.append(model(x).detach())
                flat[place] = before
            columns.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(columns, -1)


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_that_of_differences(norm):
    model, x, y = problem(norm)
    collection, made, names = captured_at(model, x, y, "cross_entropy")
    found = dense_fisher(collection, made).matrix
    # Central differences are off by a multiple of step^2, which two steps tell: what is
    # left is of the order of step^4, and rounding over the step.
    near, far = (differences(model, x, names, step) for step in (2e-4, 4e-4))
    j = (4 * near - far) / 3
    h = torch_models.loss_curvature(model(x).detach(), "cross_entropy")
    expected = torch.einsum("ncp,ncd,ndq->pq", j, h, j) / len(x)
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < 1e-7


def test_attention_couples_its_parts_and_the_norms():
    """What blocks leave out is there: a wrong block of zeros would be seen."""
    model, x, y = problem("layer")
    collection, made, _ = captured_at(model, x, y, "cross_entropy")
    whole = dense_fisher(collection, made)
    starts = np.cumsum((0, *whole.sizes))
    for i, start in enumerate(starts[:-1]):
        for j, other in enumerate(starts[:-1]):
            part = whole.matrix[start : starts[i + 1], other : starts[j + 1]]
            assert part.abs().max() > 1e-6
