"""Every block as data: see `BlockCase`."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from block_case import DAMPING_TYPES, BlockCase, moment, with_one
from block_truth import (
    USES,
    diagonal,
    dilated_pairs,
    draw_ids,
    draw_params,
    in_uses,
    normal,
    patches_2x2,
    scale_and_shift,
    squared,
    uncorrelated,
    vector_of,
)
from differences_block import DifferencesFB
from fitted_cases import CORRECTED, FITTED
from grouped_truth import CASES as GROUPED
from grouped_truth import SHARED, GroupedCase
from reduced_cases import REDUCED
from series_truth import SeriesFisher
from transposed_truth import CASES as TRANSPOSED
from transposed_truth import SHARED as TRANSPOSED_USES
from transposed_truth import TransposedCase

import kfac_core as kc

MASK = (((0.5,), (-1.0,)), ((3.0,), (0.7,)))


@dataclass(frozen=True)
class GroupedFisher:
    """The block of a layer in groups, damped and not."""

    case: GroupedCase | TransposedCase
    data: tuple[np.ndarray, np.ndarray]

    def damped(self, damping, damping_type="pi", power=1.0):
        return self.case.fisher(*self.data, damping, damping_type, power)

    def undamped(self):
        return self.case.fisher(*self.data)


def grouped(case):
    """Return a layer in groups as a `BlockCase`."""
    first = case.data_format is not None and case.data_format.startswith("NC")
    return BlockCase(
        case.block,
        case.draw,
        case.shapes,
        lambda x, g: GroupedFisher(case, (x, g)),
        axis=int(case.uses > 1),
        channels=1 if first else -1,
    )


def transposed(case):
    """Return a transposed convolution as a `BlockCase`."""
    return BlockCase(
        case.block,
        case.draw,
        case.shapes,
        lambda x, g: GroupedFisher(case, (x, g)),
        DAMPING_TYPES,
        axis=int(case.uses > 1),
        channels=1 if case.first else -1,
    )


def series(option):
    return BlockCase(
        partial(kc.blocks.FullyConnectedSeriesFB, 3, 2, option=option),
        in_uses((3,), (2,)),
        ((3, 2),),
        partial(SeriesFisher, option),
        ("pi", "off", "constant"),
        axis=1,
        inverse_alone=True,
        linear=False,
        precision=1e-11,
    )


KRONECKER = {
    "differences": BlockCase(
        lambda **options: DifferencesFB(4, 2, **options),
        normal((4,), (2,)),
        ((3, 2),),
        lambda x, g: (moment(np.diff(x)), moment(g), 1),
    ),
    "dense": BlockCase(
        lambda **options: kc.blocks.FullyConnectedKFACBasicFB(3, 2, **options),
        normal((3,), (2,)),
        ((3, 2),),
        lambda x, g: (moment(x), moment(g), 1),
    ),
    "dense-bias": BlockCase(
        lambda **options: kc.blocks.FullyConnectedKFACBasicFB(3, 2, True, **options),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: (moment(with_one(x)), moment(g), 1),
    ),
    "one": BlockCase(
        lambda **options: kc.blocks.FullyConnectedKFACBasicFB(1, 1, **options),
        normal((1,), (1,)),
        ((1, 1),),
        lambda x, g: (moment(x), moment(g), 1),
    ),
    "dense-diagonal-sides": BlockCase(
        lambda **options: kc.blocks.FullyConnectedKFACBasicFB(
            3, 2, True, True, True, **options
        ),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: (diagonal(moment(with_one(x))), diagonal(moment(g)), 1),
    ),
    "dense-wide": BlockCase(
        lambda **options: kc.blocks.FullyConnectedKFACBasicFB(
            3, 2, True, input_max_rows=60, output_blocks=2, **options
        ),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: (moment(with_one(x)), diagonal(moment(g)), 1),
        ("pi", "off", "constant"),
        powers_alone=True,
        linear=False,
    ),
    "dense-uses": BlockCase(
        lambda **options: kc.blocks.FullyConnectedMultiIndepFB(
            3, 2, True, diagonal_approx_for_input=True, **options
        ),
        in_uses((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: (diagonal(moment(with_one(x))), moment(g), USES),
        axis=1,
    ),
    "series-1": series(1),
    "series-2": series(2),
    "conv-bias": BlockCase(
        lambda **options: kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID"),
            has_bias=True,
            **options,
        ),
        normal((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2), (2,)),
        lambda x, g: (moment(with_one(patches_2x2(x))), moment(g), 4),
    ),
    "conv-channels-first": BlockCase(
        lambda **options: kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry(
                (2, 2, 2), padding="VALID", dilations=2, data_format="NCW"
            ),
            **options,
        ),
        normal((2, 4), (2, 2)),
        ((2, 2, 2),),
        lambda x, g: (moment(dilated_pairs(x)), moment(np.moveaxis(g, 1, -1)), 2),
        channels=1,
    ),
    "conv-masked": BlockCase(
        lambda **options: kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID"),
            patch_mask=MASK,
            **options,
        ),
        normal((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2),),
        lambda x, g: (moment(patches_2x2(x) * np.ravel(MASK)), moment(g), 4),
    ),
    "conv-pixels": BlockCase(
        lambda **options: kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry((2, 2, 2), padding="VALID"),
            has_bias=True,
            use_sua_approx_for_input_factor=True,
            **options,
        ),
        normal((4, 2), (3, 2)),
        ((2, 2, 2), (2,)),
        lambda x, g: (uncorrelated(x, 2), moment(g), 3),
        ("pi", "off", "constant"),
        powers_alone=True,
    ),
    "conv-uses": BlockCase(
        lambda **options: kc.blocks.ConvKFCBasicMultiIndepFB(
            kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID"), **options
        ),
        in_uses((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2),),
        lambda x, g: (
            moment(patches_2x2(x.reshape(-1, 3, 3, 1))),
            moment(g),
            4 * USES,
        ),
        axis=1,
    ),
    "grouped": grouped(GROUPED["grouped"]),
    "grouped-uses": grouped(SHARED),
    "depthwise": grouped(GROUPED["depthwise"]),
    "depthwise-channels-first": grouped(GROUPED["depthwise-channels-first"]),
    "embedding": BlockCase(
        lambda **options: kc.blocks.EmbeddingKFACFB(4, 2, **options),
        draw_ids(),
        ((4, 2),),
        lambda ids, g: (np.diag(np.eye(4)[ids].mean(0)), moment(g), 1),
        ids=True,
    ),
    "embedding-sums": BlockCase(
        lambda **options: kc.blocks.EmbeddingKFACFB(
            4,
            2,
            repeated_ids="count_squared",
            diagonal_approx_for_output=True,
            **options,
        ),
        draw_ids(3),
        ((4, 2),),
        lambda ids, g: (
            np.diag((np.eye(4)[ids].sum(1) ** 2).mean(0)),
            diagonal(moment(g)),
            1,
        ),
        ids=True,
    ),
    "embedding-uses": BlockCase(
        lambda **options: kc.blocks.EmbeddingKFACMultiIndepFB(4, 2, **options),
        draw_ids(uses=(USES,)),
        ((4, 2),),
        lambda ids, g: (np.diag(np.eye(4)[ids].mean((0, 1))), moment(g), USES),
        axis=1,
        ids=True,
    ),
}

SINGLE_FACTOR = {
    "dense-diagonal": BlockCase(
        lambda **options: kc.blocks.FullyConnectedDiagonalFB(3, 2, True, **options),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: squared(with_one(x)[:, None], g[:, None]),
    ),
    "conv-diagonal": BlockCase(
        lambda **options: kc.blocks.ConvDiagonalFB(
            kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID"),
            has_bias=True,
            **options,
        ),
        normal((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2), (2,)),
        lambda x, g: squared(with_one(patches_2x2(x)), g.reshape(len(g), 4, 2)),
    ),
    "depthwise-diagonal": BlockCase(
        lambda **options: kc.blocks.DepthwiseConvDiagonalFB(
            kc.ConvolutionGeometry(
                (2, 2, 2, 2), padding=((0, 1), (1, 0)), strides=(2, 1)
            ),
            has_bias=True,
            **options,
        ),
        GROUPED["depthwise"].draw,
        GROUPED["depthwise"].shapes,
        lambda x, g: np.diag(
            np.mean(GROUPED["depthwise"].case_gradients(x, g) ** 2, axis=0)
        ),
    ),
    "scale-and-shift": BlockCase(
        lambda **options: kc.blocks.ScaleAndShiftFullFB((4, 3), (1,), (1,), **options),
        normal((4, 3), (4, 3)),
        ((3,), (3,)),
        lambda x, g: moment(scale_and_shift(x, g)),
    ),
    "scale-and-shift-diagonal": BlockCase(
        lambda **options: kc.blocks.ScaleAndShiftDiagonalFB(
            (4, 3), (1,), (1,), **options
        ),
        normal((4, 3), (4, 3)),
        ((3,), (3,)),
        lambda x, g: diagonal(moment(scale_and_shift(x, g))),
    ),
    "naive-full": BlockCase(
        lambda **options: kc.blocks.NaiveFullFB(6, **options),
        draw_params,
        ((2, 2), (2,)),
        lambda params: np.outer(vector_of(params), vector_of(params)) / 4,
        extra={"batch_size": 4},
        axis=None,
    ),
    "bias": BlockCase(
        lambda **options: kc.blocks.BiasFullFB((2,), **options),
        normal((1,), (4, 2)),
        ((2,),),
        lambda x, g: moment(g.sum(1)),
    ),
    "bias-diagonal": BlockCase(
        lambda **options: kc.blocks.BiasDiagonalFB((2, 1, 1), **options),
        normal((1,), (2, 3, 4)),
        ((2, 1, 1),),
        lambda x, g: diagonal(moment(g.sum((2, 3)))),
        channels=1,
    ),
    "naive-diagonal": BlockCase(
        lambda **options: kc.blocks.NaiveDiagonalFB(6, **options),
        draw_params,
        ((2, 2), (2,)),
        lambda params: np.diag(vector_of(params) ** 2) / 4,
        extra={"batch_size": 4},
        axis=None,
    ),
}

PARTS = {
    "transposed": transposed(TRANSPOSED["strided"]),
    "transposed-groups": transposed(TRANSPOSED["groups"]),
    "transposed-output": transposed(TRANSPOSED["output-groups"]),
    "transposed-uses": transposed(TRANSPOSED_USES["strided"]),
}

BLOCKS = {
    **KRONECKER,
    **REDUCED,
    **SINGLE_FACTOR,
    **CORRECTED,
    **FITTED,
    **PARTS,
}
# Each block with each way to damp it.
DAMPED = [(name, kind) for name, case in BLOCKS.items() for kind in case.kinds]
# In every library: each block with one way, and each way with a few blocks.
IN_ALL_WAYS = ("dense-bias", "dense-diagonal-sides", "embedding", "depthwise")
EVERYWHERE = [
    (name, kind)
    for name, case in BLOCKS.items()
    for kind in (case.kinds if name in IN_ALL_WAYS else case.kinds[:1])
]
