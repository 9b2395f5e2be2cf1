"""Embeddings and bags of them, as PyTorch has them, against dense truth."""

import pytest
import torch
from torch import nn
from torch_models import assert_same, dense_fisher, drawn, matrix, seeded, statistics

from kfac_adapters.torch import capture
from kfac_core.errors import RegistrationError

F = nn.functional

# The dense truth maps over cases, which PyTorch does for bags in a loop.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


class Bags(nn.Module):
    """A model of bags, whose other arguments are the model's."""

    def __init__(self, **options):
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(6, 4, **options), nn.Linear(4, 3)

    def forward(self, ids, *args):
        return self.out(torch.tanh(self.bag(ids, *args)))


def ids(*rows):
    return torch.tensor(rows)


def within_ids(matrix):
    """The part of a block that the block of an embedding has: that of equal ids."""
    rows = torch.eye(6, dtype=matrix.dtype)
    return matrix * torch.kron(rows, torch.ones(4, 4, dtype=matrix.dtype))


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("padding", [None, 1, -1])
def test_bag_of_one_case_has_what_its_diagonal_form_keeps(mode, padding):
    model = seeded(lambda: Bags(mode=mode, padding_idx=padding))
    x = ids([0, 2, 2, 1, 5])  # one of them twice
    _, found = matrix(*statistics(model, x)[1:], "bag.weight")
    exact = dense_fisher(model, x, ["bag.weight"])
    assert_same(found, within_ids(exact))
    assert (found - exact).norm() > 1e-3 * exact.norm()


@pytest.mark.parametrize("include_last", [False, True])
def test_bags_by_offsets_are_those_of_rows(include_last):
    flat, offsets = torch.tensor([0, 2, 2, 4, 1, 3]), [0, 3, 3]
    model = seeded(lambda: Bags(mode="mean", include_last_offset=include_last))
    ends = torch.tensor([*offsets, 6] if include_last else offsets)

    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, flat):
            return self.inner(flat, ends)

    _, found = matrix(*statistics(Given(), flat)[1:], "inner.bag.weight")
    # The second bag is empty, which in rows is one of padding alone.
    padded = seeded(lambda: Bags(mode="mean", padding_idx=5))
    padded.load_state_dict(model.state_dict())
    rows = ids([0, 2, 2], [5, 5, 5], [4, 1, 3])
    _, expected = matrix(*statistics(padded, rows)[1:], "bag.weight")
    assert_same(found, expected)


def test_each_weighted_id_of_a_bag_is_a_use():
    model, x = seeded(lambda: Bags(mode="sum")), ids([0, 2, 4], [1, 0, 3])
    weights = drawn(2, 3, seed=4).abs()
    given = capture(model, "cross_entropy").linearize(x, None, weights)
    v = {"loss": drawn(2, 3, seed=5)}
    hidden = model.bag(x, None, weights)
    (at_bags,) = torch.autograd.grad(model.out(torch.tanh(hidden)), hidden, v["loss"])
    expected = torch.einsum("bm,bd->bmd", weights, at_bags)
    assert_same(given.output_gradients(v)["bag.weight"], expected)
    assert torch.equal(given.layer_inputs["bag.weight"], x)


def test_weighted_id_of_one_case_is_exact():
    model, x = seeded(lambda: Bags(mode="sum")), ids([2])
    weight = torch.full((1, 1), 3.0, dtype=torch.float64)

    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x, None, weight)

    model_of_one = Given()
    name = "inner.bag.weight"
    _, found = matrix(*statistics(model_of_one, x)[1:], name)
    assert_same(found, dense_fisher(model_of_one, x, [name]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "max"}, "the largest of a bag"),
        ({"max_norm": 1.0}, "max_norm"),
        ({"scale_grad_by_freq": True}, "scale_grad_by_freq"),
        ({"sparse": True}, "sparse"),
    ],
)
def test_bag_without_a_block_is_refused_by_name(options, message):
    model = seeded(lambda: Bags(**options))
    with pytest.raises(RegistrationError, match=rf"'bag\.weight' is of an.*{message}"):
        capture(model, "cross_entropy").linearize(ids([0, 2]))


class Tied(nn.Module):
    def __init__(self, **padding):
        super().__init__()
        self.table = nn.Embedding(6, 4, **padding)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(torch.tanh(self.table(ids)))


def test_padding_of_a_tied_embedding_counts_nothing_there():
    """The statistics of both sides are those of the rows without padding, by hand."""
    model, x = seeded(lambda: Tied(padding_idx=2)), ids([0, 2, 3], [2, 4, 4])
    captured, estimator, state = statistics(model, x)
    layer = next(v for v in estimator.layers if "table.weight" in v.params)
    use = state.blocks[layer.name].parts[0].by_use[0]
    counts = torch.tensor([1.0, 0, 0, 1, 2, 0], dtype=torch.float64) / 6
    assert_same(use.rows.cov.total / use.rows.cov.weight, counts)
    given = captured.linearize(x)
    assert given.masks["table.weight[0]"].sum() == 4
    unpadded = seeded(Tied)
    unpadded.load_state_dict(model.state_dict())
    _, other, without = statistics(unpadded, x)
    use = without.blocks[other.layers[0].name].parts[0].by_use[0]
    assert (use.rows.cov.total / use.rows.cov.weight - counts).abs().max() > 0.1


class Table(nn.Module):
    """Rows of a matrix, taken by an index."""

    def __init__(self, taken):
        super().__init__()
        self.table, self.out = nn.Parameter(torch.ones(6, 4)), nn.Linear(4, 3)
        self.taken = taken

    def forward(self, ids):
        return self.out(torch.tanh(self.taken(self.table, ids)))


TAKEN = {
    "an index": lambda table, ids: table[ids],
    "an index from the end": lambda table, ids: table[ids - 6],
    "a tuple": lambda table, ids: table[(ids,)],
    "index_select": lambda table, ids: table.index_select(0, ids),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_rows_by_an_index_are_an_embedding(kind):
    model, x = seeded(lambda: Table(TAKEN[kind])), ids(0, 2, 2, 1, 5)
    captured, *own = statistics(model, x)
    assert type(captured.collection.layers[0].block).__name__ == "EmbeddingKFACFB"
    plain = seeded(lambda: Table(lambda table, ids: F.embedding(ids, table)))
    plain.load_state_dict(model.state_dict())
    expected = matrix(*statistics(plain, x)[1:], "table")[1]
    assert_same(matrix(*own, "table")[1], expected)


NO_ROWS = {
    "rows and columns": lambda table, ids: table[ids[:, None], ids % 4][:, :4],
    "a mask": lambda table, ids: table[torch.arange(6) < len(ids)],
}


@pytest.mark.parametrize("kind", NO_ROWS)
def test_what_is_no_row_of_a_table_is_no_layer(kind):
    model = seeded(lambda: Table(NO_ROWS[kind]))
    with pytest.raises(RegistrationError, match="'table' is used by __getitem__"):
        statistics(model, ids(0, 2, 2, 1, 5))
