"""What users of other libraries report, each as a test of what is right."""

import pytest
import torch
from torch import nn
from torch_models import (
    Loop,
    TiedLM,
    assert_same,
    dense_fisher,
    drawn,
    labels,
    matrix,
    seeded,
    statistics,
)

import kfac_core as kc
from kfac_adapters.torch import KFAC, Preconditioner, capture
from kfac_core.errors import RegistrationError, UnsupportedError

F = nn.functional


def block(model, x, name="weight", **options):
    return matrix(*statistics(model, x, **options)[1:], name)[1]


def test_inputs_that_are_not_contiguous_do_not_crash_or_change_a_number():
    model, x = seeded(lambda: nn.Linear(4, 3)), drawn(4, 8)
    wide = torch.stack([x.T, x.T], -1)[..., 0]
    assert not wide.is_contiguous()
    assert_same(block(model, wide), block(model, x.T.contiguous()))


def test_module_that_is_called_several_times_is_averaged_once_a_batch():
    model, x = seeded(Loop), drawn(4, 6)
    captured, estimator, state = statistics(model, x)
    first = captured.linearize(x)
    twice = estimator.update_covs(state, first, 0.5)
    name = next(v.name for v in estimator.layers if "a.weight" in v.params)
    assert float(twice.blocks[name].input_factor.cov.weight) == 1.5
    assert first.layer_inputs["a.weight"].shape == (4, 3, 6)


def test_tied_weight_is_not_counted_twice():
    captured = capture(seeded(TiedLM), "cross_entropy")
    captured.linearize(labels(2, 6, classes=11))
    names = [n for layer in captured.collection.layers for n in layer.params]
    assert names.count("emb.weight") == 1
    assert "head.weight" not in names
    own = sum(p.numel() for p in seeded(TiedLM).parameters())
    assert captured.coverage.size == own


@pytest.mark.parametrize("positions", [1, 5])
def test_scale_of_a_loss_of_tokens_is_that_of_its_mean(positions):
    """Tokens are cases, whether or not they lie beside each other in a sequence."""
    model, x = seeded(lambda: nn.Linear(4, 3)), drawn(20, 4)
    tokens = x.reshape(-1, positions, 4)
    assert_same(block(model, tokens), block(model, x))
    twice = block(model, torch.cat([tokens, tokens]))
    assert_same(twice, block(model, x))


def test_model_in_evaluation_mode_is_not_another():
    """What PyTorch has for inference would hide the layers."""
    layer = seeded(lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True))
    x = drawn(3, 5, 4)
    name = "self_attn.in_proj_weight"
    found = block(layer.eval(), x, name, loss="mse_loss")
    assert_same(found, block(layer.train(), x, name, loss="mse_loss"))


def test_frozen_layer_does_not_stop_those_before_it():
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)))
    x = drawn(1, 4)
    expected = block(model, x, "0.weight")
    model[2].requires_grad_(False)
    assert_same(block(model, x, "0.weight"), expected)
    assert_same(expected, dense_fisher(model, x, ["0.weight", "0.bias"]))


def test_layer_that_a_pass_does_not_use_has_no_part_of_its_cases():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.skips = nn.Linear(4, 4), nn.Linear(4, 3), False

        def forward(self, x):
            return self.b(x if self.skips else torch.tanh(self.a(x)))

    model, x = seeded(Optional), drawn(5, 4)
    captured, estimator, state = statistics(model, x)
    once = matrix(estimator, state, "a.weight")[1]
    model.skips = True
    state = estimator.update_covs(state, captured.linearize(x), 1.0)
    assert_same(matrix(estimator, state, "a.weight")[1], once / 2)
    assert (matrix(estimator, state, "b.weight")[1] - once[:15, :15]).norm() > 0.1


def test_sequences_of_every_length_are_steps_of_one_layer():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.out = nn.GRU(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.own(x)[0][-1])

    model = seeded(Reader)
    captured, estimator, state = statistics(model, drawn(3, 5, 4))
    for length in (6, 2):
        given = captured.linearize(drawn(length, 5, 4))
        assert given.layer_inputs["own.weight_hh_l0"].shape == (5, length, 4)
        state = estimator.update_covs(state, given, 0.9)
    assert all(bool(v.ok) for v in kc.tree.leaves(state) if hasattr(v, "ok"))


def test_layer_with_more_uses_than_at_first_is_refused_by_name():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.times = nn.Linear(4, 4), 1

        def forward(self, x):
            for _ in range(self.times):
                x = torch.tanh(self.a(x))
            return x

    model, x = seeded(Again), drawn(5, 4)
    captured = capture(model, "mse_loss")
    captured.linearize(x)
    model.times = 2
    with pytest.raises(UnsupportedError, match=r"a\.weight: this pass uses it 2 times"):
        captured.linearize(x)


@pytest.mark.parametrize(
    "how", ["by softmax", "so that its weight is made by exp", "as a part"]
)
def test_layer_that_something_else_uses_later_is_refused_by_name(how):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.how = nn.Linear(4, 3), ""

        def forward(self, x):
            if self.how == "by softmax":
                return x @ self.a.weight.softmax(0).T
            if self.how.endswith("exp"):
                return x @ self.a.weight.exp().T
            weight = self.a.weight[:2] if self.how else self.a.weight
            return F.linear(x, weight, None if self.how else self.a.bias)

    model, x = seeded(Other), drawn(5, 4)
    captured = capture(model, "mse_loss")
    captured.linearize(x)
    model.how = how
    with pytest.raises(UnsupportedError, match=rf"a\.weight.* this pass uses it {how}"):
        captured.linearize(x)


class LowRank(nn.Module):
    """A linear layer that is frozen, and the sum with two small ones."""

    def __init__(self, kind):
        super().__init__()
        self.base, self.kind = nn.Linear(4, 3), kind
        self.base.requires_grad_(False)
        self.a, self.b = nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False)

    def forward(self, x):
        if self.kind == "modules":
            return self.base(x) + 0.5 * self.b(self.a(x))
        if self.kind == "products":
            return self.base(x) + x @ self.a.weight.T @ self.b.weight.T
        whole = self.base.weight + self.b.weight @ self.a.weight
        return F.linear(x, whole, self.base.bias)


@pytest.mark.parametrize("kind", ["modules", "products"])
def test_low_rank_sum_of_layers_is_exact_for_one_case(kind):
    model, x = seeded(lambda: LowRank(kind)), drawn(1, 4)
    for name in ("a.weight", "b.weight"):
        assert_same(block(model, x, name), dense_fisher(model, x, [name]))


def functional(model):
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.gain = model, nn.Parameter(torch.ones(3, 4))

        def forward(self, x):
            own = {"weight": self.inner.weight * self.gain}
            return torch.func.functional_call(self.inner, own, (x,))

    return Called()


MADE = {
    "low rank": (lambda: LowRank("weights"), "'b.weight' is used by matmul"),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        r"'parametrizations\.weight\.original' is used by",
    ),
    "orthogonal": (
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(4, 3)),
        r"'parametrizations\.weight\.original' is used by",
    ),
    "functional call": (lambda: functional(nn.Linear(4, 3)), "'gain' is used by mul"),
    "complex": (
        lambda: nn.Linear(4, 3, dtype=torch.complex128),
        "'weight' is of complex numbers",
    ),
}


@pytest.mark.parametrize("kind", MADE)
def test_parameter_that_a_weight_is_made_of_is_refused_by_name(kind):
    make, message = MADE[kind]
    model, x = make(), drawn(5, 4)
    model = model if kind == "complex" else model.double()
    with pytest.raises(RegistrationError, match=message):
        capture(model, "mse_loss").linearize(x.to(next(model.parameters()).dtype))


def test_functional_call_of_the_parameters_themselves_is_the_module():
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            own = dict(self.inner.named_parameters())
            return torch.func.functional_call(self.inner, own, (x,))

    model, x = seeded(Called), drawn(5, 4)
    assert_same(block(model, x, "inner.weight"), block(model.inner, x))


def test_lazy_layers_are_layers_from_their_first_pass_on():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(3)).double()
        optimizer = KFAC(model, 0.1, 0.1)
        F.cross_entropy(model(drawn(5, 6)), labels(5)).backward()
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert optimizer.coverage.share == 1.0
    assert not torch.equal(model[0].weight, before)


def test_layers_of_several_precisions_keep_theirs():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.b(torch.tanh(self.a(x.float())).double())

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Mixed()
    model.b.double()
    optimizer = KFAC(model, 0.1, 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(drawn(5, 4)), labels(5)).backward()
        optimizer.step()
    kinds = [p.dtype for p in model.parameters()]
    assert kinds == [torch.float32] * 2 + [torch.float64] * 2
    assert all(p.isfinite().all() for p in model.parameters())


class Wrapped(nn.DataParallel):
    """As on a machine with two devices, which need not be there."""

    def __init__(self, module):
        super().__init__(module)
        self.device_ids = [0, 1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # scripts are old
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(Wrapped(nn.Linear(4, 3))), "module '0' has replicas"),
        (lambda: nn.Sequential(torch.jit.script(nn.Linear(4, 3))), "'0' is a script"),
    ],
    ids=["replicas", "script"],
)
def test_module_whose_layers_are_hidden_is_refused_by_name(make, message):
    with pytest.raises(UnsupportedError, match=message):
        Preconditioner(make())


@pytest.mark.parametrize("mode", ["empirical", "gradients"])
def test_a_first_batch_without_a_label_is_no_part_of_the_statistics(mode):
    x, y = drawn(16, 4), labels(16)

    def after(*targets):
        model = seeded(lambda: nn.Linear(4, 3))
        optimizer = KFAC(
            model, lr=0.0, damping=0.1, mode=mode, loss="cross_entropy", seed=1
        )
        for own in targets:
            optimizer.zero_grad()
            F.cross_entropy(model(x), own, reduction="sum").div(16).backward()
            optimizer.step()
        (state,) = optimizer._tracker.state.blocks.values()
        return state

    with pytest.warns(RuntimeWarning, match="all rows are ignored"):
        found = after(torch.full((16,), -100), y)
    known = after(y)
    assert_same(found.input_factor.cov.weight, known.input_factor.cov.weight)
    if mode == "empirical":  # the other draws from the numbers that come next
        assert_same(found.output_factor.cov.total, known.output_factor.cov.total)
