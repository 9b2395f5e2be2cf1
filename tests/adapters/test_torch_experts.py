"""Mixtures of experts whose weights are one stack, against layers of their own."""

import pytest
import torch
from torch import nn
from torch_models import drawn, gradients, labels, same, seeded

from kfac_adapters.torch import Preconditioner, capture

F = nn.functional

EXPERTS, ROWS = 3, 12


def routing(counts):
    """Where the rows of each expert end: the rows are in the order of the experts."""
    return torch.tensor(counts).cumsum(0).to(torch.int32)


class Stacked(nn.Module):
    """Experts as those of transformers: ``[experts, out, in]``, transposed in use."""

    def __init__(self, product, transposed):
        super().__init__()
        shape = (EXPERTS, 6, 4) if transposed else (EXPERTS, 4, 6)
        self.w, self.out = nn.Parameter(torch.empty(shape)), nn.Linear(6, 3)
        self.product, self.transposed = product, transposed

    def forward(self, x, offsets):
        w = self.w.transpose(-2, -1) if self.transposed else self.w
        return self.out(torch.tanh(self.product(x, w, offs=offsets)))


class Apart(nn.Module):
    """The same, a layer for each expert."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Linear(4, 6, bias=False) for _ in range(EXPERTS)
        )
        self.out = nn.Linear(6, 3)

    def forward(self, x, offsets):
        rows = torch.tensor_split(x, offsets[:-1].tolist())
        own = [layer(part) for layer, part in zip(self.experts, rows, strict=True)]
        return self.out(torch.tanh(torch.cat(own)))


def both(product, transposed):
    apart = seeded(Apart)
    stacked = Stacked(product, transposed).double()
    weights = torch.stack([layer.weight for layer in apart.experts])
    with torch.no_grad():
        stacked.w.copy_(weights if transposed else weights.mT)
        stacked.out.load_state_dict(apart.out.state_dict())
    return stacked, apart


@pytest.mark.parametrize("product", [F.grouped_mm, torch._grouped_mm])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("counts", [(4, 5, 3), (7, 0, 5)])
def test_stacked_experts_are_preconditioned_as_layers_of_their_own(
    product, transposed, counts
):
    x, y, found = drawn(ROWS, 4), labels(ROWS), []
    for model in both(product, transposed):
        own = Preconditioner(model, damping=0.1)
        for routed in (counts, (2, 9, 1)):  # the next batch has other rows
            model.zero_grad()
            F.cross_entropy(model(x, routing(routed)), y).backward()
            own.step()
        found.append(gradients(model))
    (w, *rest), (*apart, weight, bias) = found
    expected = torch.stack(apart)
    same([w, *rest], [expected if transposed else expected.mT, weight, bias])


def test_rows_of_no_expert_are_zeros():
    model, _ = both(F.grouped_mm, True)
    x, offsets = drawn(ROWS, 4), routing((4, 5, 1))
    captured = capture(model, "cross_entropy")
    outputs = captured.linearize(x, offsets).loss_inputs["loss"]
    torch.testing.assert_close(outputs[10:], model.out.bias.expand(2, 3).detach())
    assert captured.coverage.share == 1.0


class Towers(nn.Module):
    """Each expert takes all rows, or rows of its own, by a product of stacks."""

    def __init__(self, form):
        super().__init__()
        shape = (EXPERTS, 6, 4) if form == "left" else (EXPERTS, 4, 6)
        self.w, self.form = nn.Parameter(torch.empty(shape)), form
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        own, w = x.expand(EXPERTS, *x.shape), self.w
        made = {
            "bmm": lambda: torch.bmm(own, w),
            "method": lambda: own.bmm(w),
            "baddbmm": lambda: torch.baddbmm(x.new_zeros(1), own, w),
            "matmul": lambda: own @ w,
            "broadcast": lambda: x @ w,
            "left": lambda: (w @ own.mT).mT,
            "einsum": lambda: torch.einsum("enk,ekf->enf", own, w),
            "einsum, last": lambda: torch.einsum(
                "ekf,nke->nfe", w, own.permute(1, 2, 0)
            ),
        }[self.form]()
        made = made.permute(2, 0, 1) if self.form == "einsum, last" else made
        return self.out(torch.tanh(made).mean(0))


class TowersApart(Apart):
    def forward(self, x):
        return self.out(
            torch.tanh(torch.stack([own(x) for own in self.experts])).mean(0)
        )


FORMS = [
    *("bmm", "method", "baddbmm", "matmul", "broadcast", "left", "einsum"),
    "einsum, last",
]


@pytest.mark.parametrize("form", FORMS)
def test_products_of_stacks_are_preconditioned_as_layers_of_their_own(form):
    apart, x, y, found = seeded(TowersApart), drawn(ROWS, 4), labels(ROWS), []
    stacked = Towers(form).double()
    weights = torch.stack([layer.weight.detach() for layer in apart.experts])
    with torch.no_grad():
        stacked.w.copy_(weights if form == "left" else weights.mT)
        stacked.out.load_state_dict(apart.out.state_dict())
    for model in (stacked, apart):
        own = Preconditioner(model, damping=0.1)
        F.cross_entropy(model(x), y).backward()
        own.step()
        assert own.coverage.share == 1
        found.append(model)
    expected = torch.stack([layer.weight.grad for layer in apart.experts])
    own = stacked.w.grad if form == "left" else stacked.w.grad.mT
    same([own, *gradients(stacked.out)], [expected, *gradients(apart.out)])
