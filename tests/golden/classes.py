"""The original's classes: how a recorded case makes the spec of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
from case import Case

import kfac_core as kc

# Arguments that the original has had since r1.10, where a case does not use them.
UNUSED = ("sub_sample_inputs", "sub_sample_patches", "patch_mask")

# The original counts ids that are repeated within a case, each time.
COUNTED = {"repeated_ids": "count"}


def width(data: Any) -> int:
    """Return the length of the last axis of the first array in nested tuples."""
    while isinstance(data, tuple):
        data = data[0]
    return data.shape[-1]


def entries(source: Any) -> int:
    return sum(int(np.prod(part.shape)) for part in source_params(source))


def source_params(source: Any) -> tuple[Any, ...]:
    return source if isinstance(source, tuple) else (source,)


def ctor_of(case: Case) -> dict[str, Any]:
    """Return the recorded constructor arguments, their lists as tuples."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in case.spec["ctor"].items()
        if not (key in UNUSED and value is None)
    }


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
        lambda step, **c: kc.FullyConnectedKroneckerFactor(width(step["tensors"]), **c),
        ("tensors",),
    ),
    "FullyConnectedDiagonalFactor": (
        lambda step, **c: kc.FullyConnectedDiagonalFactor(
            width(step["inputs"]), width(step["outputs_grads"]), **c
        ),
        ("inputs", "outputs_grads"),
    ),
    "ConvInputKroneckerFactor": (
        lambda step, **c: kc.ConvInputKroneckerFactor(**c),
        ("inputs",),
    ),
    "ConvOutputKroneckerFactor": (
        lambda step, **c: kc.ConvOutputKroneckerFactor(
            width(step["outputs_grads"]), **c
        ),
        ("outputs_grads",),
    ),
    "ConvDiagonalFactor": (
        lambda step, **c: kc.ConvDiagonalFactor(**c),
        ("inputs", "outputs_grads"),
    ),
    "EmbeddingInputKroneckerFactor": (
        lambda step, **c: kc.EmbeddingInputKroneckerFactor(**c, **COUNTED),
        ("input_ids",),
    ),
    "NaiveFullFactor": (
        lambda step, batch_size, **c: kc.NaiveFullFactor(
            entries(step["params_grads"][0]), **c
        ),
        ("params_grads",),
    ),
    "NaiveDiagonalFactor": (
        lambda step, batch_size, **c: kc.NaiveDiagonalFactor(
            entries(step["params_grads"][0]), **c
        ),
        ("params_grads",),
    ),
}
FACTORS["FullFactor"] = FACTORS["NaiveFullFactor"]

BLOCKS: dict[str, Callable[..., Any]] = {
    "FullyConnectedKFACBasicFB": lambda step, v, **c: kc.FullyConnectedKFACBasicFB(
        width(step["inputs"]), width(step["g"]), **c
    ),
    "FullyConnectedDiagonalFB": lambda step, v, **c: kc.FullyConnectedDiagonalFB(
        width(step["inputs"]), width(step["g"]), **c
    ),
    "ConvKFCBasicFB": lambda step, v, **c: kc.ConvKFCBasicFB(**c),
    "ConvDiagonalFB": lambda step, v, **c: kc.ConvDiagonalFB(**c),
    "EmbeddingKFACFB": lambda step, v, **c: kc.EmbeddingKFACFB(
        output_size=width(step["g"]), **c, **COUNTED
    ),
    "NaiveFullFB": lambda step, v, batch_size, **c: kc.NaiveFullFB(entries(v), **c),
    "NaiveDiagonalFB": lambda step, v, batch_size, **c: kc.NaiveDiagonalFB(
        entries(v), **c
    ),
}
BLOCKS["FullFB"] = BLOCKS["NaiveFullFB"]

SERVED = {**FACTORS, **BLOCKS}
