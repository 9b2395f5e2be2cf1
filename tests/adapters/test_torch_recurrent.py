"""Recurrent networks: cells, and whole sequences, against dense truth and by hand."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch_models import (
    assert_same,
    dense_fisher,
    drawn,
    gradients,
    matrix,
    same,
    seeded,
    statistics,
)

from kfac_adapters.torch import Preconditioner, capture

F = nn.functional


class Step(nn.Module):
    """A cell of one step, from a state that is not zero."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.start, self.out = cell(4, 5), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = torch.tanh(self.start(x))
        state = (h, h) if isinstance(self.cell, nn.LSTMCell) else h
        new = self.cell(x, state)
        return self.out(new[0] if isinstance(new, tuple) else new)


CELLS = {
    "LSTM": nn.LSTMCell,
    "GRU": nn.GRUCell,
    "tanh": nn.RNNCell,
    "ReLU": lambda *sizes: nn.RNNCell(*sizes, nonlinearity="relu"),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("side", ["ih", "hh"])
def test_both_layers_of_a_cell_are_exact_for_one_case(kind, side):
    model, x = seeded(lambda: Step(CELLS[kind])), drawn(1, 4)
    names, found = matrix(*statistics(model, x)[1:], f"cell.weight_{side}")
    assert names == (f"cell.weight_{side}", f"cell.bias_{side}")
    assert_same(found, dense_fisher(model, x, names))


SEQUENCES = {
    "LSTM": lambda **options: nn.LSTM(4, 5, **options),
    "GRU": lambda **options: nn.GRU(4, 5, **options),
    "tanh": lambda **options: nn.RNN(4, 5, **options),
    "ReLU": lambda **options: nn.RNN(4, 5, nonlinearity="relu", **options),
    "LSTM with projections": lambda **options: nn.LSTM(4, 5, proj_size=3, **options),
}
OPTIONS = {
    "one layer": {},
    "cases first": {"batch_first": True},
    "without biases": {"bias": False},
    "two layers, both ways": {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", SEQUENCES)
def test_recorded_sequence_is_that_of_pytorch(kind, options):
    """The numbers are the same, those that are dropped included."""
    model = seeded(lambda: SEQUENCES[kind](**OPTIONS[options]))
    x = drawn(3, 4, 4)
    captured = capture(model, "mse_loss", output=lambda made: made[0])

    def run():
        torch.manual_seed(0)
        return model(x)

    with torch.random.fork_rng():
        expected = run()
        with captured.recording() as record:
            found = run()
    assert_same(found[0], expected[0])
    found, expected = found[1], expected[1]
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)
    names = {name for use in record.uses for name in (use.weight, use.bias) if name}
    assert names == set(dict(model.named_parameters()))
    assert not record.elsewhere


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.own, self.out = nn.GRU(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.own(x)[0][-1])


class ByCells(nn.Module):
    def __init__(self):
        super().__init__()
        self.own, self.out = nn.GRUCell(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = x.new_zeros(x.shape[1], 5)
        for one in x:
            h = self.own(one, h)
        return self.out(h)


def test_sequence_has_the_statistics_of_cells_in_a_loop():
    whole, cells, x = seeded(Whole), seeded(ByCells), drawn(6, 3, 4)
    values = [p.detach() for p in whole.parameters()]
    cells.load_state_dict(dict(zip(cells.state_dict(), values, strict=True)))
    for side in ("ih", "hh"):
        _, found = matrix(*statistics(whole, x)[1:], f"own.weight_{side}_l0")
        _, expected = matrix(*statistics(cells, x)[1:], f"own.weight_{side}")
        assert_same(found, expected)
        # And the block of several steps is not exact.
        assert (found - dense_of_steps(cells, x, side)).norm() > 1e-3 * found.norm()


def dense_of_steps(model, x, side):  # PyTorch maps over cells alone
    class CasesFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x.transpose(0, 1))

    names = [f"inner.own.{part}_{side}" for part in ("weight", "bias")]
    return dense_fisher(CasesFirst(), x.transpose(0, 1), names)


def packed(x, lengths):
    return nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_recorded_sequences_of_several_lengths_are_those_of_pytorch(kind):
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.5}
    model, x = seeded(lambda: SEQUENCES[kind](**options)), drawn(6, 3, 4)
    captured = capture(model, "mse_loss", output=lambda made: made[0].data)

    def run():
        torch.manual_seed(0)
        return model(packed(x, [2, 6, 3]))

    with torch.random.fork_rng():
        expected = run()
        with captured.recording() as record:
            found = run()
    assert_same(found[0].data, expected[0].data)
    for a, b in zip(found[1], expected[1], strict=True):
        assert_same(a, b)
    assert not record.elsewhere


class Packed(Whole):
    lengths: list[int]

    def forward(self, x):
        return self.out(self.own(packed(x, self.lengths))[1][-1])


def test_packed_sequences_of_one_length_have_the_statistics_of_others():
    whole, model, x = seeded(Whole), seeded(Packed), drawn(6, 3, 4)
    model.load_state_dict(whole.state_dict())
    for side in ("ih", "hh"):
        name = f"own.weight_{side}_l0"
        model.lengths = [6, 6, 6]
        _, expected = matrix(*statistics(whole, x)[1:], name)
        assert_same(matrix(*statistics(model, x)[1:], name)[1], expected)
        model.lengths = [6, 2, 4]
        found = matrix(*statistics(model, x)[1:], name)[1]
        assert (found - expected).norm() > 1e-3 * expected.norm()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_network_within_a_checkpoint_is_left_as_it_is(kind):
    """A checkpoint runs it again unrecorded, which must save the same tensors."""

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.own = nn.Linear(4, 4), SEQUENCES[kind]()

        def inner(self, x):
            return self.own(x)[0][-1]

        def forward(self, x):
            return checkpoint(self.inner, self.first(x), use_reentrant=False)

    model, x, y = seeded(Checkpointed), drawn(6, 3, 4), torch.tensor([1, 0, 2])
    F.cross_entropy(model(x), y).backward()
    expected = gradients(model)
    model.zero_grad()
    own = Preconditioner(model, unclaimed="identity")
    F.cross_entropy(model(x), y).backward()
    same(gradients(model), expected, rtol=1e-12)
    assert f"is used by {kind.lower()}" in str(own.coverage)
