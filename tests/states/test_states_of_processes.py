"""Processes that see a shard each, and one that merges what they return."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np

import kfac_core as kc


def test_two_processes_are_one(rng):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2, has_bias=True)
    x, g = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    empty, sizes = block.init(like=x), (4, 5)
    update = partial(block.update_covs, empty, ema_decay=1.0)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        states = [
            pool.submit(update, own, gradients, ema_weight=size)
            for own, gradients, size in zip(
                np.split(x, sizes[:1]), np.split(g, sizes[:1]), sizes, strict=True
            )
        ]
        union = block.merge(*[state.result() for state in states])
    whole = update(x, g, ema_weight=9)
    np.testing.assert_allclose(
        block.full_fisher_block(union), block.full_fisher_block(whole), rtol=1e-12
    )
