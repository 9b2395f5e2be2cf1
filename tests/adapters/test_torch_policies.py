"""What no layer covers is named, and becomes what the user says; never silently."""

import pytest
import torch
from torch import nn
from torch_models import TiedLM, drawn, labels, matrix, mlp, seeded, statistics

from kfac_adapters.torch import KFAC, Preconditioner, capture
from kfac_core.errors import (
    ArgumentError,
    NotComputedError,
    RegistrationError,
    UnsupportedError,
)

F = nn.functional


class Scale(nn.Module):
    """A linear layer, and a parameter that no function of a layer takes."""

    def __init__(self):
        super().__init__()
        self.scale, self.out = nn.Parameter(torch.ones(4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.sin(x) * self.scale.softmax(0))


def test_error_names_parameter_and_operation():
    captured = capture(seeded(Scale), "cross_entropy")
    with pytest.raises(RegistrationError, match=r"'scale' is used by softmax"):
        captured.linearize(drawn(3, 4))


class Masked(nn.Module):
    """A token that takes the place of what is masked, and no mask."""

    def __init__(self):
        super().__init__()
        self.mask_token, self.out = nn.Parameter(torch.zeros(4)), nn.Linear(4, 3)

    def forward(self, x, mask=None):
        return self.out(x if mask is None else torch.where(mask, self.mask_token, x))


def test_error_says_what_to_do_with_a_parameter_that_nothing_uses():
    captured = capture(seeded(Masked), "cross_entropy")
    match = r"'mask_token' is used by nothing.* 'ignore': perhaps 'mask_token'"
    with pytest.raises(RegistrationError, match=match):
        captured.linearize(drawn(3, 4))
    names, _ = matrix(
        *statistics(seeded(Masked), drawn(3, 4), unclaimed="ignore")[1:], "out.weight"
    )
    assert names == ("out.weight", "out.bias")


def test_table_has_every_parameter_once():
    model = seeded(Scale)
    captured = capture(model, "cross_entropy", unclaimed="diagonal")
    captured.linearize(drawn(3, 4))
    names = [name for line in captured.coverage.lines for name in line.params]
    assert sorted(names) == sorted(dict(model.named_parameters()))
    numbers = sum(param.numel() for param in model.parameters())
    assert captured.coverage.size == numbers
    assert 0 < captured.coverage.share < 1
    assert "is used by softmax" in str(captured.coverage)


@pytest.mark.parametrize("policy", ["diagonal", "identity", "ignore"])
def test_policy_decides_the_gradient(policy):
    model, x, y = seeded(Scale), drawn(8, 4), labels(8)
    own = Preconditioner(model, "cross_entropy", unclaimed=policy, invert_every=1)
    F.cross_entropy(model(x), y).backward()
    before = model.scale.grad.clone()
    own.step()
    if policy == "diagonal":
        assert (model.scale.grad / before > 1.5).all()
    else:
        assert torch.equal(model.scale.grad, before)


def test_ignored_parameter_is_not_trained():
    model, x, y = seeded(Scale), drawn(8, 4), labels(8)
    optimizer = KFAC(model, unclaimed="ignore")
    F.cross_entropy(model(x), y).backward()
    before = model.out.weight.detach().clone()
    optimizer.step()
    assert torch.equal(model.scale, torch.ones(4, dtype=torch.float64))
    assert not torch.equal(model.out.weight, before)


class AlsoElsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(self.a(x) + x @ self.a.weight.mT.softmax(0))


class WithNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(5, 4, max_norm=1.0), nn.Linear(4, 3)

    def forward(self, ids):
        return self.out(self.table(ids))


@pytest.mark.parametrize(
    ("make", "x", "message"),
    [
        (AlsoElsewhere, drawn(3, 4), "'a.weight' is a layer's, and used by"),
        (WithNorm, labels(3), "'table.weight' is of an embedding: max_norm"),
    ],
    ids=["used elsewhere", "max_norm"],
)
def test_what_has_no_rule_is_refused_by_name(make, x, message):
    model = seeded(make)
    captured = capture(model, "cross_entropy")
    with pytest.raises(RegistrationError, match=message):
        captured.linearize(x)


def test_frozen_parameters_are_of_no_layer():
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)))
    model[0].weight.requires_grad_(False)
    captured = capture(model, "cross_entropy")
    captured.linearize(drawn(3, 4))
    names = [layer.params for layer in captured.collection.layers]
    assert names == [("2.weight", "2.bias"), ("0.bias",)]
    model[0].weight.requires_grad_(True)
    with pytest.raises(ArgumentError, match=r"'0.weight'.*capture the\s+model again"):
        captured.linearize(drawn(3, 4))


class Unseen(torch.autograd.Function):
    """A product whose arguments no function of PyTorch is called with."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.T @ x


class UsedUnseen(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)) + Unseen.apply(x, self.a.weight))


def test_use_that_is_not_seen_is_found_by_the_gradient():
    captured = capture(seeded(UsedUnseen), "cross_entropy")
    with pytest.raises(
        RegistrationError, match=r"'a\.weight'.*not seen \(.*\) as well"
    ):
        captured.linearize(drawn(3, 4))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of importing the compiler
def test_compiled_module_is_refused_by_name():
    model = nn.Sequential(nn.Linear(4, 4), torch.compile(nn.Linear(4, 3)))
    with pytest.raises(UnsupportedError, match=r"module '1' is compiled"):
        capture(model, "cross_entropy")


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_is_right_or_refused(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.direct = False

        def inner(self, x):
            return torch.tanh(self.b(torch.tanh(x)))

        def forward(self, x):
            from torch.utils.checkpoint import checkpoint

            x = self.a(x)
            if self.direct:
                return self.c(self.inner(x))
            return self.c(checkpoint(self.inner, x, use_reentrant=reentrant))

    model, x, y = seeded(Checkpointed), drawn(8, 4), labels(8)

    def step(direct):
        model.direct = direct
        model.zero_grad()
        own = Preconditioner(model, "cross_entropy", damping=0.1)
        F.cross_entropy(model(x), y).backward()
        own.step()
        own.remove()
        return [p.grad.clone() for p in model.parameters()]

    expected = step(direct=True)
    if reentrant:
        with pytest.raises(RegistrationError, match=r"'b\.weight' is used by nothing"):
            step(direct=False)
        return
    for found, wanted in zip(step(direct=False), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_rows_of_several_cases_together_are_refused_in_the_empirical_mode():
    model = seeded(TiedLM)
    optimizer = KFAC(model, mode="empirical")
    ids = labels(2, 5, classes=11)
    with pytest.raises(UnsupportedError, match=r"'pos\.weight'"):
        F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    optimizer.remove()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"reduction": "none"}, "reduction is 'none'"),
        ({"mode": "best"}, "mode is 'best'"),
        ({"damping": -1.0}, "damping is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"cov_every": 0}, "cov_every is 0"),
        ({"unclaimed": "drop"}, "unclaimed is 'drop'"),
        ({"model": torch.sin}, "model is a"),
    ],
)
def test_unknown_arguments_are_refused_by_name(given, message):
    with pytest.raises(ArgumentError, match=message):
        KFAC(**{"model": nn.Linear(4, 3), **given})


def test_step_without_a_backward_pass_is_refused():
    with pytest.raises(NotComputedError, match=r"no backward pass"):
        KFAC(nn.Linear(4, 3)).step()


def test_an_output_that_is_in_no_loss_is_named():
    """As where several heads are stacked, and each has a loss of its own."""
    model, x = mlp(), drawn(4, 6)
    optimizer = KFAC(model, output=lambda made: torch.stack([made, made]))
    F.cross_entropy(model(x), labels(4)).backward()
    with pytest.raises(NotComputedError, match=r"output= makes, as by torch\.stack"):
        optimizer.step()


def test_unknown_approximation_is_refused():
    captured = capture(nn.Linear(4, 3), "cross_entropy", approx={"nothing": "kron"})
    with pytest.raises(ArgumentError, match=r"'nothing'"):
        captured.linearize(torch.ones(2, 4))


def test_one_approximation_for_all_layers_that_have_it():
    model = nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    captured = capture(model, "cross_entropy", approx="ekfac")
    captured.linearize(torch.arange(7)[:, None])
    assert [type(layer.block).__name__ for layer in captured.collection.layers] == [
        "EigenvalueCorrectedFB",
        "ScaleAndShiftDiagonalFB",
        "EigenvalueCorrectedFB",
    ]


@pytest.mark.parametrize(
    ("approx", "block"),
    [
        ("kron_out_diag", "FullyConnectedMultiIndepFB"),
        ("kron_series_1", "FullyConnectedSeriesFB"),
        ("kronecker_optimal", "KroneckerOptimalFB"),
    ],
)
def test_a_weight_that_is_used_often_takes_what_its_kind_has(approx, block):
    model = nn.Sequential(nn.Linear(4, 4), nn.Flatten())
    captured = capture(model, "mse_loss", approx={"0.weight": approx})
    captured.linearize(torch.ones(2, 5, 4))
    (layer,) = captured.collection.layers
    assert type(layer.block).__name__ == block


def test_approximations_that_are_changed_later_are_those_that_were_given():
    given = {"fully_connected": "diagonal"}
    captured = capture(nn.Linear(4, 3), "cross_entropy", approx=given)
    given["fully_connected"] = "kron"
    captured.linearize(torch.ones(2, 4))
    (layer,) = captured.collection.layers
    assert type(layer.block).__name__ == "FullyConnectedDiagonalFB"


@pytest.mark.parametrize("approx", [["ekfac"], 3, {1: "kron"}])
def test_what_is_no_approximation_is_refused(approx):
    with pytest.raises(ArgumentError, match=r"approx is .*, expected the name of one"):
        KFAC(nn.Linear(4, 3), approx=approx)


def test_an_approximation_that_no_layer_has_is_refused():
    captured = capture(nn.Linear(4, 3), "cross_entropy", approx="kfac")
    with pytest.raises(ArgumentError, match=r"is 'kfac', expected one of .*ekfac"):
        captured.linearize(torch.ones(2, 4))


def test_what_is_no_collective_is_refused_by_name():
    with pytest.raises(ArgumentError, match="collective is a str"):
        KFAC(nn.Linear(3, 2), collective="gloo")
