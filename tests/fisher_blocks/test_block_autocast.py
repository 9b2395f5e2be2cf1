"""Inside `torch.autocast`, every verb computes bit for bit what it computes outside.

PyTorch lowers each product of matrices to half precision there, and says nothing.
"""

from contextlib import nullcontext

import pytest
from block_cases import BLOCKS

import kfac_core as kc
from kfac_core import tree

DAMPING = 0.5


def verbs(torch, case, rng):
    """Return what all verbs of a block return, as a function of a context."""
    block = case.made(case.kinds[0], (-1, -0.5))
    arrays, vector = (
        tree.map(
            lambda x: torch.from_numpy(x.astype("float32") if x.dtype == "f8" else x),
            data,
        )
        for data in (case.draw(rng, 8), case.vector(rng))
    )

    def run(context):
        with context:
            data = arrays[not block.takes_inputs :]
            state = block.init(torch.zeros(1))
            for _ in range(2):
                state = block.update_covs(state, *data, **case.extra, ema_decay=0.9)
            state = block.update_inverses(state, DAMPING)
            known = case.products(block, 1, -1, -0.5).items()
            found = {name: multiply(state, vector) for name, multiply in known}
            found["covs"], found["dense"] = state, block.full_fisher_block(state)
            found["spectrum"] = tuple(block.spectrum(state))
            if not case.inverse_alone and case.kinds[0] != "exact":
                found["error"] = block.inverse_error(state, 2 * DAMPING)
        return found

    return run


@pytest.mark.parametrize("name", BLOCKS)
def test_autocast_changes_no_verb_of_a_block(torch, name, rng):
    run = verbs(torch, BLOCKS[name], rng)
    outside = run(nullcontext())
    inside = run(torch.autocast("cpu", dtype=torch.bfloat16))
    for verb, expected in outside.items():
        for x, y in zip(tree.leaves(inside[verb]), tree.leaves(expected), strict=True):
            assert x.dtype == y.dtype, verb
            assert torch.equal(x, y), verb


LOSSES = {
    "labels": kc.losses.CategoricalLogitsNegativeLogProbLoss(),
    "numbers": kc.losses.NormalMeanNegativeLogProbLoss(var=0.5),
    "flags": kc.losses.MultiBernoulliNegativeLogProbLoss(),
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_no_verb_of_a_loss(torch, name, dtype, rng):
    loss, shape = LOSSES[name], (40, 20)
    logits, vector = (torch.from_numpy(rng.normal(size=shape)).float() for _ in "xv")
    targets = (vector > 0).float()
    if name == "labels":
        targets = torch.from_numpy(rng.integers(20, size=40))

    def run():
        key = torch.Generator().manual_seed(0)
        return (
            loss.evaluate(logits, targets),
            loss.sample(key, logits),
            loss.multiply_fisher(logits, vector),
        )

    outside = run()
    with torch.autocast("cpu", dtype=getattr(torch, dtype)):
        inside = run()
    for x, y in zip(inside, outside, strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)
