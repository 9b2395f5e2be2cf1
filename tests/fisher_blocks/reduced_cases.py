"""Cases of K-FAC-reduce; where it is exact stands in `test_block_sharing.py`."""

import numpy as np
from block_case import BlockCase, moment, with_one
from block_truth import USES, draw_ids, in_uses

import kfac_core as kc

REDUCED = {
    "reduce-uses": BlockCase(
        lambda **options: kc.blocks.KFACReduceFB(
            kc.blocks.FullyConnectedMultiIndepFB(3, 2, True), **options
        ),
        in_uses((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: (moment(with_one(x.mean(0))), moment(g.sum(0)), 1),
        ("pi", "exact"),
        axis=1,
    ),
    "reduce-ids": BlockCase(
        lambda **options: kc.blocks.KFACReduceFB(
            kc.blocks.EmbeddingKFACMultiIndepFB(4, 2), **options
        ),
        draw_ids(uses=(USES,)),
        ((4, 2),),
        lambda ids, g: (moment(np.eye(4)[ids].mean(0)), moment(g.sum(0)), 1),
        ("pi",),
        axis=1,
        ids=True,
    ),
}
