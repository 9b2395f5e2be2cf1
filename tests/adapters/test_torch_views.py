"""Slices, stacks and transposes of parameters as layers, against dense truth."""

import pytest
import torch
from torch import nn
from torch_models import (
    assert_same,
    dense_fisher,
    drawn,
    gradients,
    labels,
    matrix,
    same,
    seeded,
    statistics,
)

from kfac_adapters.torch import KFAC, Preconditioner, capture
from kfac_core.errors import RegistrationError

F = nn.functional

# The dense truth maps over cases, which PyTorch does for fused attention in a loop.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


class Attention(nn.Module):
    """One query, which is not among the keys."""

    def __init__(self, same_values=True, need_weights=True, **options):
        super().__init__()
        self.own = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.out, self.same = nn.Linear(4, 3), same_values
        self.need_weights = need_weights

    def forward(self, x):
        query, keys = x[:, :1], x[:, 1:]
        values = keys if self.same else keys.tanh()[..., : self.own.vdim]
        attended, _ = self.own(query, keys, values, need_weights=self.need_weights)
        return self.out(attended[:, 0])


ATTENTION = {
    "keys are values": {},
    "keys are not values": {"same_values": False},
    "without weights": {"need_weights": False},
    "without biases": {"bias": False},
    "values of another size": {"same_values": False, "vdim": 3},
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_query_of_cross_attention_is_exact_for_one_case(kind):
    options = ATTENTION[kind]
    model, x = seeded(lambda: Attention(**options)), drawn(1, 5, 4)
    split = "vdim" in options
    name = "own.q_proj_weight" if split else "own.in_proj_weight"
    own = name if split else f"{name}[0:4]"
    captured, estimator, state = statistics(model, x)
    names, found = matrix(estimator, state, own)
    biases = () if "bias" in options else ("own.in_proj_bias[0:4]",)
    assert names == (own, *biases)
    whole = [name, *("own.in_proj_bias" for _ in biases)]
    exact = dense_fisher(model, x, whole)
    first = dict(model.named_parameters())[name].numel()
    rows = torch.cat([torch.arange(16), first + torch.arange(4 * len(biases))])
    assert_same(found, exact[rows][:, rows])
    assert captured.coverage.share == 1.0


def test_keys_of_cross_attention_are_not_exact():
    model, x = seeded(Attention), drawn(1, 5, 4)
    name = "own.in_proj_weight"
    names, found = matrix(*statistics(model, x)[1:], f"{name}[4:12]")
    exact = dense_fisher(model, x, [name])[16:, 16:]
    assert names == (f"{name}[4:12]", "own.in_proj_bias[4:12]")
    found = found[:32, :32]
    assert (found - exact).norm() > 1e-3 * exact.norm()


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (
            lambda: nn.Transformer(4, 2, 1, 1, 8, 0.0, batch_first=True),
            (drawn(3, 5, 4), drawn(3, 2, 4, seed=1)),
        ),
        (
            lambda: nn.TransformerDecoderLayer(4, 2, 8, 0.0, norm_first=True),
            (drawn(5, 3, 4), drawn(2, 3, 4, seed=1)),
        ),
    ],
    ids=["transformer", "decoder layer"],
)
def test_transformers_of_two_sequences_are_layers_alone(make, x):
    captured = capture(seeded(make), "mse_loss")
    captured.linearize(*x)
    assert captured.coverage.share == 1.0
    assert "multihead_attn.in_proj_weight[4:12]" in str(captured.coverage)


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.empty(2, 4, 4)), nn.Parameter(torch.ones(8))
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        for w, b in zip(self.w, self.b.split(4), strict=True):
            x = torch.tanh(F.linear(x, w, b))
        return self.out(x)


class Apart(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))


def both():
    """The same model, of a stack and of modules."""
    whole, apart = Stack().double(), seeded(Apart)
    with torch.no_grad():
        whole.w.copy_(torch.stack([apart.a.weight, apart.b.weight]))
        whole.b.copy_(torch.cat([apart.a.bias, apart.b.bias]))
        whole.out.load_state_dict(apart.out.state_dict())
    return whole, apart


def test_stack_is_preconditioned_as_separate_layers_are():
    (whole, apart), x, y = both(), drawn(16, 4), labels(16)
    for model in (whole, apart):
        own = Preconditioner(model, damping=0.1)
        F.cross_entropy(model(x), y).backward()
        own.step()
    wa, ba, wb, bb, *out = gradients(apart)
    same(gradients(whole), [torch.stack([wa, wb]), torch.cat([ba, bb]), *out])


def test_stack_trains_as_separate_layers_do_with_adaptive_damping():
    (whole, apart), x, y = both(), drawn(16, 4), labels(16)
    losses = []
    for model in (whole, apart):
        optimizer = KFAC(model, 0.1, 0.1, adapt_damping=True, invert_every=1)

        def closure(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if torch.is_grad_enabled():
                loss.backward()
            return loss

        losses.append([optimizer.step(closure).item() for _ in range(6)])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=0)
    assert losses[0][-1] < losses[0][0]


class ByHand(nn.Module):
    """Products as of those who do without modules, one of them transposed."""

    def __init__(self, kind):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.empty(5, 4)), nn.Parameter(torch.ones(4))
        nn.init.normal_(self.w)
        self.out, self.kind = nn.Linear(4, 3), kind

    def forward(self, x):
        if self.kind == "product":
            x = x @ self.w + self.b
        elif self.kind == "addmm":
            x = torch.addmm(self.b, x, self.w)
        elif self.kind == "left product":
            x = (self.w.t() @ x[..., None])[..., 0] + self.b
        elif self.kind == "einsum":
            x = torch.einsum("ni,io->no", x, self.w) + self.b
        elif self.kind == "einsum, outputs first":
            x = torch.einsum("io, ni -> on", self.w, x).mT + self.b
        else:
            x = F.linear(x, self.w.t(), self.b)
        return self.out(torch.tanh(x))


@pytest.mark.parametrize(
    "kind",
    [
        "product",
        "addmm",
        "transposed",
        "left product",
        "einsum",
        "einsum, outputs first",
    ],
)
def test_weight_that_lies_in_out_is_exact_for_one_case(kind):
    model, x = seeded(lambda: ByHand(kind)), drawn(1, 5)
    names, found = matrix(*statistics(model, x)[1:], "w")
    assert names == (("w", "b") if kind in ("addmm", "transposed") else ("w",))
    assert_same(found, dense_fisher(model, x, names))


class Autoencoder(nn.Module):
    """Its decoder is the transpose of its encoder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.offset = nn.Linear(5, 3), nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return F.linear(self.encoder(x).tanh(), self.encoder.weight.T, self.offset)


def test_transposed_decoder_is_tied_to_its_encoder():
    model, x = seeded(Autoencoder), drawn(16, 5)
    captured, estimator, state = statistics(model, x, "mse_loss")
    assert "TiedWeightsKFACFB" in str(captured.coverage)
    layer = next(v for v in estimator.layers if "encoder.weight" in v.params)
    uses = state.blocks[layer.name].parts[0].by_use
    hidden = model.encoder(x).tanh().detach()
    # Its rows see the gradients of the encoder, and the inputs of the decoder.
    assert_same(
        uses[1].rows.cov.total / uses[1].rows.cov.weight, hidden.T @ hidden / 16
    )
    assert_same(uses[0].columns.cov.total / uses[0].columns.cov.weight, x.T @ x / 16)


class Sliced(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.w, self.rows = nn.Parameter(torch.ones(6, 4)), (first, second)

    def forward(self, x):
        first, second = (x @ self.w[rows].T for rows in self.rows)
        return first + second


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((slice(0, 3), slice(2, 5)), r"not all of it, once: w\[0:3\], w\[2:5\]"),
        ((slice(0, 2), slice(2, 4)), r"not all of it, once: w\[0:2\], w\[2:4\]"),
        ((slice(0, 6, 2), slice(1, 6, 2)), r"'w' is used by"),
        ((slice(0, 3), slice(0, 3)), r"not all of it"),
    ],
    ids=["overlap", "rest", "every other", "a part alone"],
)
def test_slices_that_do_not_make_the_parameter_are_refused(rows, message):
    captured = capture(seeded(lambda: Sliced(*rows)), "cross_entropy")
    with pytest.raises(RegistrationError, match=message):
        captured.linearize(drawn(5, 4))


def test_parameter_that_is_whole_elsewhere_has_no_parts():
    class Whole(Sliced):
        def forward(self, x):
            return super().forward(x) + (x @ self.w.T)[:, :3]

    model = seeded(lambda: Whole(slice(0, 3), slice(3, 6)))
    with pytest.raises(RegistrationError, match=r"'w' is used as a whole, and in"):
        capture(model, "cross_entropy").linearize(drawn(5, 4))
    captured = capture(model, "cross_entropy", unclaimed="diagonal")
    captured.linearize(drawn(5, 4))
    assert captured.coverage.share == 0.0


class JoinedBias(nn.Module):
    """The projection of an attention whose keys have no bias, as those of BEiT."""

    def __init__(self, joins, weight=True):
        super().__init__()
        self.qkv = nn.Linear(4, 6, bias=False).requires_grad_(weight)
        self.q, self.v = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        self.register_buffer("k", torch.zeros(2))
        self.out, self.joins = nn.Linear(6, 3), joins

    def forward(self, x):
        bias = self.joins((self.q, self.k, self.v))
        return self.out(torch.tanh(F.linear(x, self.qkv.weight, bias)).mean(1))


@pytest.mark.parametrize("joins", [torch.cat, torch.hstack])
@pytest.mark.parametrize("weight", [True, False])
def test_parameters_that_are_joined_to_a_bias_are_biases(joins, weight):
    model, x = seeded(lambda: JoinedBias(joins, weight)), drawn(5, 3, 4)
    captured, *own = statistics(model, x)
    assert captured.coverage.share == 1.0
    for name in ("q", "v"):
        names, found = matrix(*own, name)
        assert names == (name,)
        exact = dense_fisher(model, x, [name])
        kept = torch.where(found == 0, 0.0, exact)
        assert_same(found, kept)
        assert_same(found.diagonal(), exact.diagonal())


def test_joined_parameters_that_are_no_bias_are_named():
    def joins(own):
        return torch.cat(own) * 2

    model = seeded(lambda: JoinedBias(joins))
    with pytest.raises(RegistrationError, match="'q' is used by mul; 'v' is used by"):
        statistics(model, drawn(5, 3, 4))
