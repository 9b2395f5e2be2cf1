"""The original's classes: how a recorded case makes the spec of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
from case import Case

import kfac_core as kc
from kfac_core.contrib.fisher_factors.convolution import SUA_SPECS
from kfac_core.contrib.original_specs import SignlessSeriesFB
from kfac_core.contrib.patch_functions import geometry_for

# Arguments that the original has had since r1.10, where a case does not use them.
UNUSED = ("sub_sample_inputs", "sub_sample_patches", "patch_mask")

# The original counts ids that are repeated within a case, each time.
COUNTED = {"repeated_ids": "count"}


def width(data: Any) -> int:
    """Return the length of the last axis of the first array in nested tuples."""
    while isinstance(data, tuple):
        data = data[0]
    return data.shape[-1]


def case_shapes(inputs: Any, gradients: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of one case's input and output, by the names of a spec."""
    shapes = []
    for data in (inputs, gradients):
        while isinstance(data, tuple):
            data = data[0]
        shapes.append(tuple(data.shape[1:]))
    return {"input_shape": shapes[0], "output_shape": shapes[1]}


def entries(source: Any) -> int:
    return sum(int(np.prod(part.shape)) for part in source_params(source))


def source_params(source: Any) -> tuple[Any, ...]:
    return source if isinstance(source, tuple) else (source,)


def as_now(filter_shape: Any, **c: Any) -> dict[str, Any]:
    """Return recorded constructor arguments with a convolution's geometry as one."""
    taps = next((c.pop(n) for n in ("dilation_rate", "dilations", "rate") if n in c), 1)
    where = (c.pop("padding", "SAME"), c.pop("strides", 1), taps)
    names = (c.pop("data_format", None), c.pop("extract_patches_fn", None), "layer")
    return {"geometry": geometry_for(filter_shape, *where, *names), **c}


def ctor_of(case: Case) -> dict[str, Any]:
    """Return the recorded constructor arguments, their lists as tuples."""
    ctor = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in case.spec["ctor"].items()
        if not (key in UNUSED and value is None)
    }
    if "assume_zero_mean_activations" in case.spec:
        ctor["assume_zero_mean"] = case.spec["assume_zero_mean_activations"]
        ctor["averaged"] = "covariances"  # the original's, of each batch by itself
    if case.spec["class"] == "FullyConnectedSeriesFB":
        ctor["absolute_eigenvalues"] = True  # the original drops the sign
    return ctor


def damping_of(case: Case) -> float:
    """Return the damping that the original computed a block with.

    Its diagonal factors pass a Python number through float32: TensorFlow makes a
    float32 tensor of it before it is cast to the factor's dtype.
    """
    damping: float = case.spec["damping"]
    is_diagonal = case.spec["class"].endswith("DiagonalFB")
    return float(np.float32(damping)) if is_diagonal else damping


# Spec of a case, and the arguments of its updates in order.
FACTORS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "FullyConnectedKroneckerFactor": (
        lambda step, **c: kc.factors.FullyConnectedKroneckerFactor(
            width(step["tensors"]), **c
        ),
        ("tensors",),
    ),
    "FullyConnectedDiagonalFactor": (
        lambda step, **c: kc.factors.FullyConnectedDiagonalFactor(
            width(step["inputs"]), width(step["outputs_grads"]), **c
        ),
        ("inputs", "outputs_grads"),
    ),
    "ConvInputKroneckerFactor": (
        lambda step, **c: kc.factors.ConvInputKroneckerFactor(**as_now(**c)),
        ("inputs",),
    ),
    "ConvInputMultiKF": (
        lambda step, **c: kc.factors.ConvInputMultiKF(**as_now(**c)),
        ("inputs",),
    ),
    "ConvInputSUAKroneckerFactor": (
        lambda step, averaged, **c: SUA_SPECS[averaged](**as_now(**c)),
        ("inputs",),
    ),
    "ConvOutputKroneckerFactor": (
        lambda step, **c: kc.factors.ConvOutputKroneckerFactor(
            width(step["outputs_grads"]), **c
        ),
        ("outputs_grads",),
    ),
    "ConvOutputMultiKF": (
        lambda step, **c: kc.factors.ConvOutputMultiKF(
            width(step["outputs_grads"]), **c
        ),
        ("outputs_grads",),
    ),
    "ConvDiagonalFactor": (
        lambda step, **c: kc.factors.ConvDiagonalFactor(**as_now(**c)),
        ("inputs", "outputs_grads"),
    ),
    "EmbeddingInputKroneckerFactor": (
        lambda step, **c: kc.factors.EmbeddingInputKroneckerFactor(**c, **COUNTED),
        ("input_ids",),
    ),
    "DiagonalKroneckerFactor": (
        lambda step, dtype=None, **c: kc.factors.DiagonalKroneckerFactor(
            width(step["tensors"]), **c
        ),
        ("tensors",),
    ),
    "DiagonalMultiKF": (
        lambda step, dtype=None, **c: kc.factors.DiagonalMultiKF(
            width(step["tensors"]), **c
        ),
        ("tensors",),
    ),
    "FullyConnectedMultiKF": (
        lambda step, **c: kc.factors.FullyConnectedMultiKF(width(step["tensors"]), **c),
        ("tensors",),
    ),
    "NaiveFullFactor": (
        lambda step, batch_size, **c: kc.factors.NaiveFullFactor(
            entries(step["params_grads"][0]), **c
        ),
        ("params_grads",),
    ),
    "NaiveDiagonalFactor": (
        lambda step, batch_size, **c: kc.factors.NaiveDiagonalFactor(
            entries(step["params_grads"][0]), **c
        ),
        ("params_grads",),
    ),
    "ScaleAndShiftDiagonalFactor": (
        lambda step, **c: kc.factors.ScaleAndShiftDiagonalFactor(
            **case_shapes(step["inputs"], step["outputs_grads"]), **c
        ),
        ("inputs", "outputs_grads"),
    ),
    "ScaleAndShiftFullFactor": (
        lambda step, **c: kc.factors.ScaleAndShiftFullFactor(
            **case_shapes(step["inputs"], step["outputs_grads"]), **c
        ),
        ("inputs", "outputs_grads"),
    ),
}
FACTORS["FullFactor"] = FACTORS["NaiveFullFactor"]

BLOCKS: dict[str, Callable[..., Any]] = {
    "FullyConnectedKFACBasicFB": lambda step, v, **c: (
        kc.blocks.FullyConnectedKFACBasicFB(
            width(step["inputs"]), width(step["g"]), **c
        )
    ),
    "FullyConnectedDiagonalFB": lambda step, v, **c: kc.blocks.FullyConnectedDiagonalFB(
        width(step["inputs"]), width(step["g"]), **c
    ),
    "ConvKFCBasicFB": lambda step, v, **c: kc.blocks.ConvKFCBasicFB(**as_now(**c)),
    "ConvKFCBasicMultiIndepFB": lambda step, v, **c: kc.blocks.ConvKFCBasicMultiIndepFB(
        **as_now(**c)
    ),
    "ConvDiagonalFB": lambda step, v, **c: kc.blocks.ConvDiagonalFB(**as_now(**c)),
    "EmbeddingKFACFB": lambda step, v, **c: kc.blocks.EmbeddingKFACFB(
        output_size=width(step["g"]), **c, **COUNTED
    ),
    "EmbeddingKFACMultiIndepFB": lambda step, v, **c: (
        kc.blocks.EmbeddingKFACMultiIndepFB(
            output_size=width(step["g"]), **c, **COUNTED
        )
    ),
    "FullyConnectedMultiIndepFB": lambda step, v, **c: (
        kc.blocks.FullyConnectedMultiIndepFB(
            width(step["inputs"]), width(step["g"]), **c
        )
    ),
    "FullyConnectedSeriesFB": lambda step, v, absolute_eigenvalues, **c: (
        SignlessSeriesFB(width(step["inputs"]), width(step["g"]), **c)
    ),
    "NaiveFullFB": lambda step, v, batch_size, **c: kc.blocks.NaiveFullFB(
        entries(v), **c
    ),
    "NaiveDiagonalFB": lambda step, v, batch_size, **c: kc.blocks.NaiveDiagonalFB(
        entries(v), **c
    ),
    "DepthwiseConvDiagonalFB": lambda step, v, **c: kc.blocks.DepthwiseConvDiagonalFB(
        **as_now(**c)
    ),
    "ScaleAndShiftDiagonalFB": lambda step, v, **c: kc.blocks.ScaleAndShiftDiagonalFB(
        **case_shapes(step["inputs"], step["g"]), **c
    ),
    "ScaleAndShiftFullFB": lambda step, v, **c: kc.blocks.ScaleAndShiftFullFB(
        **case_shapes(step["inputs"], step["g"]), **c
    ),
}
BLOCKS["FullFB"] = BLOCKS["NaiveFullFB"]

# The loss of a case, and its inputs in order.
LOSSES: dict[str, tuple[Callable[..., kc.losses.LossFunction], tuple[str, ...]]] = {
    "NormalMeanNegativeLogProbLoss": (
        kc.losses.NormalMeanNegativeLogProbLoss,
        ("mean",),
    ),
    "NormalMeanVarianceNegativeLogProbLoss": (
        kc.losses.NormalMeanVarianceNegativeLogProbLoss,
        ("mean", "variance"),
    ),
    "CategoricalLogitsNegativeLogProbLoss": (
        kc.losses.CategoricalLogitsNegativeLogProbLoss,
        ("logits",),
    ),
    "OnehotCategoricalLogitsNegativeLogProbLoss": (
        kc.losses.OnehotCategoricalLogitsNegativeLogProbLoss,
        ("logits",),
    ),
    "MultiBernoulliNegativeLogProbLoss": (
        kc.losses.MultiBernoulliNegativeLogProbLoss,
        ("logits",),
    ),
}

SERVED = {"KfacOptimizer", *FACTORS, *BLOCKS, *LOSSES}
