"""All factors and blocks: those of their own tables, and those that are in none."""

import numpy as np
from block_case import BlockCase
from block_cases import BLOCKS
from block_truth import in_uses, normal
from factor_case import FactorCase
from factor_cases import FACTORS
from factor_truth import mean_square

import kfac_core as kc


def tied_data(rng, n):
    ids, hidden = rng.integers(0, 4, n), rng.normal(size=(n, 2))
    gradients = rng.normal(size=(n, 2)), rng.normal(size=(n, 4))
    return kc.Uses((ids, hidden)), kc.Uses(gradients)


def pairs(rng, n):
    first, second, g = normal((2,), (3,), (2,))(rng, n)
    return kc.Pair(first, second), g


MORE_FACTORS = {
    "low-rank": FactorCase(
        lambda **options: kc.factors.FullyConnectedKroneckerFactor(
            3, form=kc.factors.LowRank(max_rows=12), **options
        ),
        normal((3,)),
        mean_square,
        argument="tensors",
        sources=0,
        powers_alone=True,
    ),
    "sampled": FactorCase(
        lambda **options: kc.factors.ConvInputKroneckerFactor(
            kc.ConvolutionGeometry((2, 2, 3), padding="VALID"),
            sub_sample_inputs=True,
            inputs_fraction=0.5,
            **options,
        ),
        normal((4, 2)),
        mean_square,
        extra={"key": np.random.default_rng(0)},
    ),
    "series": FactorCase(
        lambda **options: kc.factors.FullyConnectedMultiKF(
            2, option1quants=("damping",), option2quants=("damping",), **options
        ),
        in_uses((2,)),
        mean_square,
        axis=1,
        argument="tensors",
    ),
}
MORE_BLOCKS = {
    "shampoo": BlockCase(
        lambda damping_type="constant", **options: kc.blocks.ShampooFB(
            kc.blocks.FullyConnectedKFACBasicFB(3, 2), **options
        ),
        normal((3,), (2,)),
        ((3, 2),),
        lambda x, g: None,
        ("constant",),
    ),
    "soap": BlockCase(
        lambda damping_type="exact", **options: kc.blocks.SoapFB(
            kc.blocks.FullyConnectedKFACBasicFB(3, 2), **options
        ),
        normal((3,), (2,)),
        ((3, 2),),
        lambda x, g: None,
        ("exact",),
    ),
    "foof": BlockCase(
        lambda **options: kc.blocks.ForwardOnlyFB(
            kc.blocks.FullyConnectedKFACBasicFB(3, 2), **options
        ),
        normal((3,), (2,)),
        ((3, 2),),
        None,
    ),
    "foof-conv": BlockCase(
        lambda **options: kc.blocks.ForwardOnlyFB(
            kc.blocks.ConvKFCBasicFB(
                kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID")
            ),
            **options,
        ),
        normal((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2),),
        None,
    ),
    "foof-uses": BlockCase(
        lambda **options: kc.blocks.ForwardOnlyFB(
            kc.blocks.FullyConnectedMultiIndepFB(3, 2), **options
        ),
        in_uses((3,), (2,)),
        ((3, 2),),
        None,
        axis=1,
    ),
    "partial-bias": BlockCase(
        lambda **options: kc.blocks.FullyConnectedMultiPartialBiasFB(
            3, 2, (True, False, True), **options
        ),
        in_uses((3,), (2,)),
        ((3, 2), (2,)),
        None,
        axis=1,
    ),
    "batch-first": BlockCase(
        lambda **options: kc.blocks.FullyConnectedMultiIndepFB(
            3, 2, num_uses=3, batch_first=True, **options
        ),
        normal((3, 3), (3, 2)),
        ((3, 2),),
        None,
    ),
    "tied": BlockCase(
        lambda **options: kc.blocks.TiedWeightsKFACFB(
            4, 2, ("embedding", "transposed"), True, **options
        ),
        tied_data,
        ((4, 2), (4,)),
        None,
    ),
    "bilinear": BlockCase(
        lambda **options: kc.blocks.BilinearKFACFB(2, 3, 2, True, **options),
        pairs,
        ((2, 3, 2), (2,)),
        None,
    ),
    "bilinear-factored": BlockCase(
        lambda **options: kc.blocks.BilinearKFACFB(
            2, 3, 2, factored_inputs=True, **options
        ),
        pairs,
        ((2, 3, 2),),
        None,
    ),
    "sampled": BlockCase(
        lambda **options: kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID"),
            sub_sample_inputs=True,
            inputs_fraction=0.5,
            **options,
        ),
        normal((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2),),
        None,
        extra={"key": np.random.default_rng(0)},
    ),
    "exact": BlockCase(
        lambda **options: kc.blocks.FullyConnectedKFACBasicFB(
            3, 2, True, damping_type="exact", **options
        ),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        None,
    ),
    "out-in": BlockCase(
        lambda **options: kc.blocks.FullyConnectedKFACBasicFB(
            3, 2, True, layout="out_in", **options
        ),
        normal((3,), (2,)),
        ((2, 3), (2,)),
        None,
    ),
}
"""Those in no other table, and some with further arguments."""

FACTOR_CASES = FACTORS | MORE_FACTORS
BLOCK_CASES = BLOCKS | MORE_BLOCKS
