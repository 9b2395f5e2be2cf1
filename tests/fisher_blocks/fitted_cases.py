"""Cases of blocks that are fitted to, or corrected by, the gradients of cases."""

import numpy as np
from block_case import BlockCase, moment, with_one
from block_truth import nearest_product, normal, partial_traces

import kfac_core as kc

# Without a batch after the basis, the eigenvalues are those of the Kronecker product.
CORRECTED = {
    "ekfac": BlockCase(
        lambda damping_type="exact", **options: kc.blocks.EigenvalueCorrectedFB(
            kc.blocks.FullyConnectedKFACBasicFB(3, 2, True), **options
        ),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: np.kron(moment(with_one(x)), moment(g)),
        ("exact",),
        linear=False,
    ),
}

# These are fitted to the gradients of cases.
FITTED = {
    "kronecker-optimal": BlockCase(
        lambda damping_type="pi", **options: kc.blocks.KroneckerOptimalFB(
            kc.blocks.FullyConnectedKFACBasicFB(3, 2, True, damping_type=damping_type),
            **options,
        ),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: nearest_product(with_one(x), g, rounds=5),
        ("pi", "exact"),
        linear=False,
    ),
    "tnt": BlockCase(
        lambda damping_type="pi", **options: kc.blocks.TensorNormalTrainingFB(
            kc.blocks.FullyConnectedKFACBasicFB(3, 2, True, damping_type=damping_type),
            **options,
        ),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: partial_traces(with_one(x), g),
        ("pi",),
        linear=False,
    ),
}
