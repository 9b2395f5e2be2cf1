"""Inside `torch.autocast`, every verb computes bit for bit what it computes outside.

PyTorch lowers each product of matrices to half precision there, and says nothing.
"""

from contextlib import nullcontext

import pytest
from block_cases import BLOCKS

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
