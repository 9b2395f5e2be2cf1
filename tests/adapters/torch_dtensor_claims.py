"""Claims on DTensors, which no verb takes for whole; see `torch_ranks_program`."""

from pathlib import Path

import pytest
import torch
from ranks_and_shards import RANK, RANKS, STORE, made
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
)

import kfac_core as kc
from kfac_adapters.torch import KFAC
from kfac_core import tree
from kfac_core.errors import BackendError, UnsupportedError
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel

BLOCK = kc.blocks.FullyConnectedKFACBasicFB(3, 2, name="layer")
LOSS = kc.losses.CategoricalLogitsNegativeLogProbLoss()
ADVICE = r"got a DTensor, .* give \.full_tensor\(\) of it"


def numbers(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).sin().reshape(shape)


def optimizer():
    model = SequentialModel(Sequential((Dense(3, 2),)))
    return kc.KfacOptimizer(
        model,
        model.layer_collection(LOSS),
        damping=0.1,
        learning_rate=0.1,
        estimation_mode="exact",
    )


def verbs(one, rows):
    """Return calls with one DTensor each, by the start of the error.

    Args:
        one: The function that spreads a tensor whole over the mesh.
        rows: The function that spreads the rows of one.
    """
    x, g, v = numbers(8, 3), numbers(8, 2), numbers(3, 2)
    first = BLOCK.init(like=x)
    state = BLOCK.update_inverses(BLOCK.update_covs(first, x, g, 0.9), 0.1)
    spread = tree.map(one, state)
    labels = torch.zeros(8, dtype=torch.int64)
    made = optimizer()
    params = {"dense_0/weights": numbers(3, 2), "dense_0/bias": numbers(2)}
    started, file = made.init(params), Path(STORE).with_name(f"state{RANK}")
    factor = BLOCK.input_factor
    return {
        "layer: like": lambda: BLOCK.init(like=rows(x)),
        "layer: state, inputs": lambda: BLOCK.update_covs(first, rows(x), g, 0.9),
        "layer: .*grads": lambda: BLOCK.update_covs(first, (x, x), (g, rows(g)), 0.9),
        "layer: weights": lambda: BLOCK.update_covs(
            first, x, g, 0.9, weights=rows(torch.ones(8))
        ),
        "layer: ema_decay": lambda: BLOCK.update_covs(
            first, x, g, one(torch.tensor(0.9))
        ),
        "layer: damping": lambda: BLOCK.update_inverses(state, one(torch.tensor(0.1))),
        "layer: .*vector": lambda: BLOCK.multiply_inverse(state, rows(v)),
        "layer: .*, vector": lambda: BLOCK.multiply(state, nn.Parameter(rows(v))),
        "layer .*: state": lambda: BLOCK.multiply_inverse(spread, v),
        "layer: .* of the state": lambda: BLOCK.full_fisher_block(spread),
        "layer: [a-z_.]+ of the state": lambda: BLOCK.spectrum(spread),
        "layer .*: state, tensors": lambda: factor.update_cov(
            factor.init(like=x), rows(x), 0.9
        ),
        "[a-zA-Z]+: targets, inputs": lambda: LOSS.evaluate(rows(g), labels),
        "[a-zA-Z]+: inputs": lambda: LOSS.sample(torch.Generator(), rows(g)),
        "dense_0/weights: params": lambda: made.init(tree.map(rows, params)),
        "SequentialModel: batch.inputs": lambda: made.step(
            started, params, Batch(rows(x), labels)
        ),
        "dense_0/.*: params": lambda: made.step(
            started, tree.map(one, params), Batch(x, labels)
        ),
        "save: arrays": lambda: kc.save(file, state, BLOCK, arrays={"rows": rows(x)}),
        "state_to_dict: state": lambda: kc.save(file, spread, BLOCK),
    }


def gather(ranks):
    """A DTensor is refused wherever it is given, and what is gathered is right."""
    mesh = init_device_mesh("cpu", (RANKS,))

    def rows(x):
        return distribute_tensor(x, mesh, [Shard(0)])

    def one(x):
        return distribute_tensor(x, mesh, [Replicate()])

    def part(x):
        return DTensor.from_local(x / RANKS, mesh, [Partial()])

    for spread in (rows, one, part):
        for start, verb in verbs(one, spread).items():
            with pytest.raises(BackendError, match=f"^{start}.* {ADVICE}"):
                verb()
    x, g = numbers(8, 3), numbers(8, 2)
    first = BLOCK.init(like=x)
    expected = BLOCK.update_covs(first, x, g, 0.9)
    for spread in (rows, one):
        whole = (spread(x).full_tensor(), spread(g).full_tensor())
        for found, leaf in zip(
            tree.leaves(BLOCK.update_covs(first, *whole, 0.9)),
            tree.leaves(expected),
            strict=True,
        ):
            assert torch.equal(found, leaf)
    with pytest.raises(UnsupportedError, match=r"in shards.* before fully_shard"):
        KFAC(fully_shard(made(), mesh=mesh), lr=0.1, damping=0.1, loss="cross_entropy")
