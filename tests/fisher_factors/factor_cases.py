"""Every factor as data: see `FactorCase`."""

import numpy as np
from differences_factor import DifferencesFactor
from factor_case import FactorCase
from factor_truth import (
    USES,
    conv_diagonal,
    depthwise_diagonal,
    draw_params,
    flat,
    folded,
    in_uses,
    mean_square,
    n_hot,
    normal,
    of_groups,
    on_blocks,
    patches_2x2,
    scale_and_shift,
    uncorrelated,
    windows,
    with_one,
)

import kfac_core as kc

MASK = ((0.5, -1.0), (2.0, 0.1)), ((3.0, 0.7), (0.0, 1.0))

ROWS = FactorCase(
    lambda **options: kc.factors.FullyConnectedKroneckerFactor(3, **options),
    normal((3,)),
    mean_square,
    argument="tensors",
    sources=0,
    scaled=0,
    singular=(np.asarray([[1.0, 2.0, 0.0]]),),
)

DENSE = {
    "rows": ROWS,
    "rows-bias": FactorCase(
        lambda **options: kc.factors.FullyConnectedKroneckerFactor(3, True, **options),
        normal((3,)),
        lambda x: mean_square(with_one(x)),
        argument="tensors",
        bordered=True,
        singular=(np.zeros((2, 3)),),
    ),
    "one": FactorCase(
        lambda **options: kc.factors.FullyConnectedKroneckerFactor(1, **options),
        normal((1,)),
        mean_square,
        argument="tensors",
        sources=0,
    ),
    "differences": FactorCase(
        lambda **options: DifferencesFactor(4, **options),
        normal((4,)),
        lambda x: mean_square(np.diff(x)),
        scaled=0,
    ),
    "rows-lagged": FactorCase(
        lambda **options: kc.factors.FullyConnectedMultiKF(
            2, True, cov_dt1=True, **options
        ),
        in_uses((2,)),
        lambda x: mean_square(with_one(folded(x))),
        axis=1,
        argument="tensors",
        bordered=True,
        singular=(np.zeros((USES, 2, 2)),),
    ),
    "patches": FactorCase(
        lambda **options: kc.factors.ConvInputKroneckerFactor(
            kc.ConvolutionGeometry((2, 2, 2, 3), padding="SAME", strides=(2, 1)),
            **options,
        ),
        normal((3, 3, 2)),
        lambda x: mean_square(
            np.concatenate(
                windows(np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), (2, 2), (2, 1))
            )
        ),
        scaled=0,
    ),
    "patches-bias-channels-first": FactorCase(
        lambda **options: kc.factors.ConvInputKroneckerFactor(
            kc.ConvolutionGeometry((3, 2, 4), padding="VALID", data_format="NCW"),
            has_bias=True,
            **options,
        ),
        normal((2, 5)),
        lambda x: mean_square(
            with_one(np.concatenate(windows(np.moveaxis(x, 1, -1), (3,), (1,))))
        ),
        channels=1,
        bordered=True,
    ),
    "patches-masked": FactorCase(
        lambda **options: kc.factors.ConvInputKroneckerFactor(
            kc.ConvolutionGeometry((2, 2, 2, 3), padding="VALID"),
            has_bias=True,
            patch_mask=MASK,
            **options,
        ),
        normal((3, 3, 2)),
        lambda x: mean_square(
            np.concatenate(with_one(patches_2x2(x) * np.ravel(MASK)))
        ),
        bordered=True,
    ),
    "patches-uses": FactorCase(
        lambda **options: kc.factors.ConvInputMultiKF(
            kc.ConvolutionGeometry((2, 1, 2), padding="VALID"), **options
        ),
        in_uses((4, 1)),
        lambda x: mean_square(np.concatenate(windows(folded(x), (2,), (1,)))),
        axis=1,
    ),
    "locations": FactorCase(
        lambda **options: kc.factors.ConvOutputKroneckerFactor(3, "NCHW", **options),
        normal((3, 2, 2)),
        lambda g: mean_square(np.moveaxis(g, 1, -1).reshape(-1, 3)),
        argument="outputs_grads",
        channels=1,
        any_rank=True,
        sources=0,
        scaled=0,
    ),
    "locations-uses": FactorCase(
        lambda **options: kc.factors.ConvOutputMultiKF(2, **options),
        in_uses((3, 2)),
        lambda g: mean_square(g.reshape(-1, 2)),
        axis=1,
        argument="outputs_grads",
        any_rank=True,
        sources=0,
    ),
    "bias": FactorCase(
        lambda **options: kc.factors.BiasFactor((2, 1), **options),
        normal((3, 2, 4)),
        lambda g: mean_square(g.sum((1, 3))),
        argument="outputs_grads",
        channels=2,
        any_rank=True,
        sources=0,
        scaled=0,
        singular=(np.zeros((2, 2, 1)),),
    ),
    "scale-and-shift": FactorCase(
        lambda **options: kc.factors.ScaleAndShiftFullFactor(
            (4, 3), (1,), (1,), **options
        ),
        normal((4, 3), (4, 3)),
        lambda x, g: mean_square(scale_and_shift(x, g)),
        sources=1,
        scaled=1,
    ),
    "naive-full": FactorCase(
        lambda **options: kc.factors.NaiveFullFactor(6, **options),
        draw_params,
        lambda params: np.outer(flat(*params), flat(*params)) / 4,
        extra={"batch_size": 4},
        axis=None,
        argument="params_grads",
        singular=((np.zeros((2, 2)), np.zeros(2)),),
    ),
}

DIAGONAL = {
    "dense-diagonal": FactorCase(
        lambda **options: kc.factors.FullyConnectedDiagonalFactor(3, 2, **options),
        normal((3,), (2,)),
        lambda x, g: (x**2).T @ g**2 / len(x),
        sources=1,
        scaled=1,
        singular=(np.zeros((2, 3)), np.ones((2, 2))),
    ),
    "dense-diagonal-bias": FactorCase(
        lambda **options: kc.factors.FullyConnectedDiagonalFactor(
            3, 2, True, **options
        ),
        normal((3,), (2,)),
        lambda x, g: (with_one(x) ** 2).T @ g**2 / len(x),
        sources=1,
    ),
    "conv-diagonal": FactorCase(
        lambda **options: kc.factors.ConvDiagonalFactor(
            kc.ConvolutionGeometry((2, 2, 2, 3), padding="VALID"),
            has_bias=True,
            **options,
        ),
        normal((3, 3, 2), (2, 2, 3)),
        conv_diagonal,
        sources=1,
        scaled=1,
    ),
    "depthwise-diagonal": FactorCase(
        lambda **options: kc.factors.DepthwiseConvDiagonalFactor(
            kc.ConvolutionGeometry((2, 2, 2, 3), padding="VALID"),
            has_bias=True,
            **options,
        ),
        normal((3, 3, 2), (2, 2, 6)),
        depthwise_diagonal,
        sources=1,
        scaled=1,
    ),
    "bias-diagonal": FactorCase(
        lambda **options: kc.factors.BiasFactor(
            (3,), form=kc.factors.Diagonal(), **options
        ),
        normal((4, 3)),
        lambda g: np.mean(g.sum(1) ** 2, axis=0),
        argument="outputs_grads",
        any_rank=True,
        sources=0,
        scaled=0,
        singular=(np.zeros((2, 3)),),
    ),
    "scale-and-shift-diagonal": FactorCase(
        lambda **options: kc.factors.ScaleAndShiftDiagonalFactor(
            (4, 3), (1,), (1,), **options
        ),
        normal((4, 3), (4, 3)),
        lambda x, g: np.mean(scale_and_shift(x, g) ** 2, axis=0),
        sources=1,
    ),
    "rows-diagonal": FactorCase(
        lambda **options: kc.factors.DiagonalKroneckerFactor(3, **options),
        normal((3,)),
        lambda x: np.mean(x**2, axis=0),
        argument="tensors",
        sources=0,
        scaled=0,
    ),
    "rows-diagonal-uses": FactorCase(
        lambda **options: kc.factors.DiagonalMultiKF(3, True, **options),
        in_uses((3,)),
        lambda x: np.mean(with_one(folded(x)) ** 2, axis=0),
        axis=1,
        argument="tensors",
        sources=0,
        singular=(np.zeros((USES, 1, 3)),),
    ),
    "ids": FactorCase(
        lambda **options: kc.factors.EmbeddingInputKroneckerFactor(5, **options),
        lambda rng, n: (rng.integers(0, 5, n),),
        lambda ids: n_hot(ids).mean(0),
        argument="input_ids",
        ids=True,
        singular=(np.asarray([1, 2]),),
    ),
    "ids-repeated": FactorCase(
        lambda **options: kc.factors.EmbeddingInputKroneckerFactor(
            5, repeated_ids="count_squared", **options
        ),
        lambda rng, n: (rng.integers(0, 5, (n, 3)),),
        lambda ids: (n_hot(ids).sum(1) ** 2).mean(0),
        argument="input_ids",
        ids=True,
    ),
    "naive-diagonal": FactorCase(
        lambda **options: kc.factors.NaiveDiagonalFactor(6, **options),
        draw_params,
        lambda params: flat(*params)[:, None] ** 2 / 4,
        extra={"batch_size": 4},
        axis=None,
        argument="params_grads",
    ),
}

STRUCTURED = {
    "pixels": FactorCase(
        lambda **options: kc.factors.ConvInputSUAKroneckerFactor(
            kc.ConvolutionGeometry((2, 2, 3), padding="VALID"),
            has_bias=True,
            pixel_weights="usage",
            **options,
        ),
        normal((4, 2)),
        # The first and the last of four pixels are in one pair each.
        lambda x: mean_square(with_one(x[:, [0, 1, 1, 2, 2, 3]].reshape(-1, 2))),
        uncorrelated,
        bordered=True,
        powers_alone=True,
        singular=(np.ones((2, 4, 2)),),
    ),
    "rows-blocks": FactorCase(
        lambda **options: kc.factors.FullyConnectedKroneckerFactor(
            3, True, form=kc.factors.BlockDiagonal(blocks=2), **options
        ),
        normal((3,)),
        on_blocks,
        lambda blocks: (
            np.kron([[1, 0], [0, 0]], blocks[0]) + np.kron([[0, 0], [0, 1]], blocks[1])
        ),
        argument="tensors",
        sources=0,
        singular=(np.zeros((2, 3)),),
    ),
    "groups": FactorCase(
        lambda **options: kc.factors.GroupedKroneckerFactor(2, 2, True, **options),
        normal((3, 2, 2)),
        of_groups,
        argument="tensors",
        sources=0,
        stacked=True,
        singular=(np.zeros((2, 1, 2, 2)),),
    ),
}

FACTORS = {**DENSE, **DIAGONAL, **STRUCTURED}
BATCHED = {name: case for name, case in FACTORS.items() if case.batched}
MATRICES = {name: case for name, case in FACTORS.items() if not case.stacked}
