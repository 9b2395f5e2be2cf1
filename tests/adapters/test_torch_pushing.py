"""Products with a model's Jacobian, and losses elsewhere: nothing else moves."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_models import drawn, labels, mlp, same, seeded

from kfac_adapters.torch import KFAC, capture
from kfac_adapters.torch.passes import Call
from kfac_adapters.torch.pushing import pushed
from kfac_core.errors import ArgumentError

F = nn.functional


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.layer(x))


class Cube(torch.autograd.Function):
    """A function without a forward mode."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class Cubed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(Cube.apply(self.a(x)))


MODELS = {
    "mlp": (mlp, (4, 6)),
    "fused attention": (lambda: seeded(Attending), (2, 5, 6)),
    "attention in evaluation": (lambda: seeded(Attending).eval(), (2, 5, 6)),
    "no forward mode": (lambda: seeded(Cubed), (4, 6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_change_is_the_jacobian_times_a_vector(name):
    make, shape = MODELS[name]
    model, x = make(), drawn(*shape)
    params = {n: p.detach() for n, p in model.named_parameters()}
    tangents = {n: drawn(*p.shape, seed=i) for i, (n, p) in enumerate(params.items())}
    call = Call((x,), {}, torch.get_rng_state(), None)
    found = pushed(capture(model, "cross_entropy"), call, tangents)
    plain = make().train()  # in evaluation, attention is not differentiated
    with sdpa_kernel(SDPBackend.MATH):
        run = lambda params: functional_call(plain, params, (x,))  # noqa: E731
        of_names = jacrev(run)(params)
    expected = sum(
        torch.tensordot(j, tangents[n], tangents[n].ndim) for n, j in of_names.items()
    )
    same([found], [expected])
    assert not found.requires_grad


class Noisy(nn.Module):
    """Dropout and batch normalisation: a pass draws, and changes the model."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.drop, self.b = nn.Dropout(0.5), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.drop(torch.tanh(self.norm(self.a(x)))))


def test_a_pass_is_done_again_with_its_own_random_numbers():
    model, x = seeded(Noisy), drawn(16, 6)
    optimizer = KFAC(model, damping=0.1, momentum_type="qmodel")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        F.cross_entropy(model(x), labels(16)).backward()
        state, buffers = torch.get_rng_state(), [b.clone() for b in model.buffers()]
        (part,) = optimizer._steps._parts
        tangents = {n: p.detach() for n, p in model.named_parameters()}
        change = pushed(optimizer._tracker.capture, part.call, tangents)
        assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, buffers, model.buffers()))
    # The last layer's own share of J v, of the units that were dropped in this pass.
    only = {n: v * n.startswith("b.") for n, v in tangents.items()}
    last = pushed(optimizer._tracker.capture, part.call, only)
    same([last], [part.rows])
    assert not torch.allclose(change, last)


def test_the_loss_at_other_parameters_leaves_no_trace():
    model, x, y = seeded(Noisy), drawn(16, 6), labels(16)
    optimizer = KFAC(model, lr=0.1, damping=0.1, adapt_damping=True, adapt_every=1)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        seen.append([p.grad.clone() for p in model.parameters()])
        return loss

    with torch.random.fork_rng():
        torch.manual_seed(5)
        optimizer.step(closure)
        after = torch.get_rng_state()
        torch.manual_seed(5)
        seeded(Noisy)(x)  # one pass
        assert torch.equal(after, torch.get_rng_state())
    assert len(seen) == 2
    same([p.grad for p in model.parameters()], seen[0], rtol=0)
    assert int(model.norm.num_batches_tracked) == 1
    assert optimizer._tracker.passes.waiting == 0
    assert optimizer.last_step.statistics.rho == optimizer.last_step.statistics.rho


def test_passes_of_a_step_are_one_batch():
    whole, parts = mlp(), mlp()
    x, y = drawn(16, 6), labels(16)
    for model, size in ((whole, 16), (parts, 8)):
        optimizer = KFAC(model, damping=0.1, momentum_type="qmodel", mode="exact")
        for i in range(0, 16, size):
            own = slice(i, i + size)
            (F.cross_entropy(model(x[own]), y[own]) * size / 16).backward()
        optimizer.step()
        length = optimizer.last_step.statistics.learning_rate
        assert 0 < length < 10
    same(list(parts.parameters()), list(whole.parameters()))


def test_what_is_needed_is_asked_for():
    model = mlp()
    with pytest.raises(ArgumentError, match=r"needs step\(closure\)"):
        KFAC(mlp(), adapt_damping=True, adapt_every=1).step()
    with pytest.raises(ArgumentError, match=r"momentum is 0\.5"):
        KFAC(mlp(), momentum_type="qmodel", momentum=0.5)
    groups = [
        {"params": model[0].parameters()},
        {"params": model[2].parameters(), "lr": 2},
    ]
    optimizer = KFAC(model, momentum_type="qmodel", params=groups)
    F.cross_entropy(model(drawn(4, 6)), labels(4)).backward()
    with pytest.raises(ArgumentError, match="take one lr"):
        optimizer.step()
