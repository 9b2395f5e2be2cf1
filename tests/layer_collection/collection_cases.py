"""A model's parameters, and a registration of every kind of layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from collection_blocks import (
    CONV_2D,
    DEPTHWISE,
    GROUPED,
    GROUPED_TWICE,
    KRON_2D,
    TRANSPOSED_TWICE,
    bilinear,
    by_sharing,
    convolutions,
    embedding,
    embedding_multi,
    fully_connected,
    fully_connected_multi,
    of_cases,
    partial_bias,
    tied,
    transposed,
)

import kfac_core as kc
from kfac_core import blocks

PARAMS = {
    "w": np.zeros((4, 3)),
    "b": np.zeros(3),
    "scalar": np.zeros(()),
    "pairs": (3, 4, 5),
    "table": np.zeros((7, 5)),
    "offset": np.zeros(7),
    "conv1": np.zeros((3, 2, 4)),
    "conv2": np.zeros((3, 3, 2, 4)),
    "conv2_bias": np.zeros(4),
    "conv3": (2, 2, 2, 2, 4),
    "grouped": (3, 3, 2, 4),
    "transposed": (3, 3, 4, 3),
    "transposed_bias": (6,),
    "depthwise": (3, 3, 2, 2),
    "pointwise": (1, 1, 4, 6),
    "pointwise_bias": (6,),
    "scale": (5,),
    "shift": (5,),
}


def empty():
    return kc.LayerCollection.of(PARAMS)


IN, OUT = {"diagonal_approx_for_input": True}, {"diagonal_approx_for_output": True}


@dataclass(frozen=True)
class Kind:
    """One kind of layer: how it is registered, and the block of each approximation."""

    register: Callable[..., Any]
    params: tuple[str, ...]
    blocks: dict[str, Any]
    towers: tuple[tuple[str, ...], ...] = (("here",),)
    kinds_of_uses: tuple[str, ...] = ()

    def at(self, tower):
        """Return the argument that registers the layer at another tower."""
        if self.kinds_of_uses:
            return {"uses": [*zip(self.kinds_of_uses, tower, strict=True)]}
        return {"site": tower if len(tower) > 1 else tower[0]}


def register(function, *args, **fixed):
    def call(collection, **kwargs):
        return getattr(collection, f"register_{function}")(*args, **(fixed | kwargs))

    return call


TWO = (("t1", "t2"),)
KINDS = {
    "generic": Kind(
        register("generic", ("w", "b", "scalar")),
        ("w", "b", "scalar"),
        {"diagonal": blocks.NaiveDiagonalFB(16), "full": blocks.NaiveFullFB(16)},
        towers=(),
    ),
    "fully_connected": Kind(
        register("fully_connected", ("w", "b"), site="here"),
        ("w", "b"),
        {
            "kron": fully_connected(),
            "diagonal": blocks.FullyConnectedDiagonalFB(4, 3, has_bias=True),
            "kron_in_diag": fully_connected(**IN),
            "kron_out_diag": fully_connected(**OUT),
            "kron_both_diag": fully_connected(**IN, **OUT),
            **of_cases(fully_connected()),
        },
    ),
    "fully_connected_multi": Kind(
        register("fully_connected_multi", ("w", "b"), site=("t1", "t2")),
        ("w", "b"),
        {
            "kron_indep": fully_connected_multi(),
            "kron_indep_in_diag": fully_connected_multi(**IN),
            "kron_indep_out_diag": fully_connected_multi(**OUT),
            "kron_indep_both_diag": fully_connected_multi(**IN, **OUT),
            **of_cases(fully_connected_multi()),
            "kron_series_1": blocks.FullyConnectedSeriesFB(4, 3, True, 2, option=1),
            "kron_series_2": blocks.FullyConnectedSeriesFB(4, 3, True, 2, option=2),
            **by_sharing(fully_connected_multi(batch_first=True)),
        },
        TWO,
    ),
    "fully_connected_partial_bias": Kind(
        register(
            "fully_connected_multi",
            ("w", "b"),
            site=("t1", "t2"),
            uses_with_bias=(True, False),
        ),
        ("w", "b"),
        {
            "kron_indep": partial_bias(),
            "kron_indep_in_diag": partial_bias(**IN),
            "kron_indep_out_diag": partial_bias(**OUT),
            "kron_indep_both_diag": partial_bias(**IN, **OUT),
        },
        TWO,
    ),
    "embedding": Kind(
        register("embedding", "table", site="here"),
        ("table",),
        {
            "kron": embedding(),
            "kron_in_diag": embedding(),
            "kron_out_diag": embedding(**OUT),
            "kron_both_diag": embedding(**OUT),
            **of_cases(embedding()),
        },
    ),
    "embedding_multi": Kind(
        register("embedding_multi", "table", site=("t1", "t2")),
        ("table",),
        {
            "kron_indep": embedding_multi(),
            "kron_indep_in_diag": embedding_multi(),
            "kron_indep_out_diag": embedding_multi(**OUT),
            "kron_indep_both_diag": embedding_multi(**OUT),
            **of_cases(embedding_multi()),
            **by_sharing(embedding_multi(batch_first=True)),
        },
        TWO,
    ),
    "conv1d": Kind(
        register(
            "conv1d",
            "conv1",
            site="here",
            strides=2,
            padding=((1, 0),),
            dilations=3,
        ),
        ("conv1",),
        convolutions((3, 2, 4), (3,)),
    ),
    "conv2d": Kind(
        register("conv2d", ("conv2", "conv2_bias"), site="here", **CONV_2D),
        ("conv2", "conv2_bias"),
        {
            "kron": blocks.ConvKFCBasicFB(**KRON_2D),
            "diagonal": blocks.ConvDiagonalFB(**KRON_2D),
            "kron_sua": blocks.ConvKFCBasicFB(
                **KRON_2D, use_sua_approx_for_input_factor=True
            ),
            **of_cases(blocks.ConvKFCBasicFB(**KRON_2D)),
            **by_sharing(blocks.ConvKFCBasicFB(**KRON_2D)),
        },
    ),
    "convolution": Kind(
        register(
            "convolution",
            "conv3",
            site="here",
            strides=(2, 2, 2),
            padding=((1, 0),) * 3,
            dilations=(1, 2, 1),
        ),
        ("conv3",),
        convolutions((2, 2, 2, 2, 4), (1, 2, 1)),
    ),
    "conv2d_multi": Kind(
        register("conv2d_multi", ("conv2", "conv2_bias"), site=("t1", "t2"), **CONV_2D),
        ("conv2", "conv2_bias"),
        {
            "kron_indep": blocks.ConvKFCBasicMultiIndepFB(**KRON_2D, num_uses=2),
            **of_cases(blocks.ConvKFCBasicMultiIndepFB(**KRON_2D, num_uses=2)),
            **by_sharing(
                blocks.ConvKFCBasicMultiIndepFB(**KRON_2D, num_uses=2, batch_first=True)
            ),
        },
        TWO,
    ),
    "depthwise_conv2d": Kind(
        register(
            "depthwise_conv2d",
            "depthwise",
            site="here",
            strides=(2, 2),
            padding="VALID",
            dilations=(1, 1),
        ),
        ("depthwise",),
        {
            "diagonal": blocks.DepthwiseConvDiagonalFB(DEPTHWISE),
            "kron": blocks.DepthwiseConvKFCBasicFB(DEPTHWISE),
            "ekfac": blocks.EigenvalueCorrectedFB(
                blocks.DepthwiseConvKFCBasicFB(DEPTHWISE)
            ),
        },
    ),
    "grouped_convolution": Kind(
        register(
            "grouped_convolution",
            "grouped",
            site="here",
            num_groups=2,
            padding=1,
            strides=2,
        ),
        ("grouped",),
        {
            "kron": blocks.GroupedConvKFCBasicFB(GROUPED),
            "ekfac": blocks.EigenvalueCorrectedFB(
                blocks.GroupedConvKFCBasicFB(GROUPED)
            ),
        },
    ),
    "grouped_convolution_multi": Kind(
        register(
            "grouped_convolution_multi",
            "grouped",
            site=("t1", "t2"),
            num_groups=2,
            padding=1,
            strides=2,
        ),
        ("grouped",),
        {
            "kron_indep": GROUPED_TWICE,
            "ekfac": blocks.EigenvalueCorrectedFB(GROUPED_TWICE),
        },
        TWO,
    ),
    "transposed_convolution": Kind(
        register(
            "transposed_convolution",
            ("transposed", "transposed_bias"),
            site="here",
            padding=[1, (0, 1)],
            strides=[2, 1],
            output_padding=1,
            dilations=(1, 2),
            num_groups=2,
            data_format="NCHW",
        ),
        ("transposed", "transposed_bias"),
        {"kron": transposed(), "kron_output_locations": transposed(locations="output")},
    ),
    "transposed_convolution_multi": Kind(
        register(
            "transposed_convolution_multi",
            ("transposed", "transposed_bias"),
            site=("t1", "t2"),
            padding=[1, (0, 1)],
            strides=[2, 1],
            output_padding=1,
            dilations=(1, 2),
            num_groups=2,
            data_format="NCHW",
        ),
        ("transposed", "transposed_bias"),
        {
            "kron_indep": transposed(TRANSPOSED_TWICE),
            "kron_indep_output_locations": transposed(
                TRANSPOSED_TWICE, locations="output"
            ),
        },
        TWO,
    ),
    "tied_weights": Kind(
        register(
            "tied_weights",
            ("table", "offset"),
            uses=[("embedding", "t1"), ("transposed", "t2")],
        ),
        ("table", "offset"),
        {
            "kron": tied(),
            "kron_nearest": tied(pooling="nearest"),
            "kron_mean": tied(pooling="mean"),
        },
        TWO,
        ("embedding", "transposed"),
    ),
    "bilinear": Kind(
        register("bilinear", ("pairs", "b"), site="here", layout="out_in"),
        ("pairs", "b"),
        {"kron": bilinear(), "kron_factored_inputs": bilinear(factored_inputs=True)},
    ),
    "bias": Kind(
        register("bias", "shift", site=("t1", "t2")),
        ("shift",),
        {"full": blocks.BiasFullFB((5,)), "diagonal": blocks.BiasDiagonalFB((5,))},
        TWO,
    ),
    "scale_and_shift": Kind(
        register(
            "scale_and_shift",
            ("scale", "shift"),
            site="here",
            input_shape=(1, 5),
            output_shape=(4, 5),
        ),
        ("scale", "shift"),
        {
            "full": blocks.ScaleAndShiftFullFB.for_params((5,), (1, 5), (4, 5), (5,)),
            "diagonal": blocks.ScaleAndShiftDiagonalFB.for_params(
                (5,), (1, 5), (4, 5), (5,)
            ),
        },
    ),
}
