"""A damped step of mlx-kfac, which it takes in float32, is ours through the presets."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from preset_layers import MAKE, OUT, N, T

from kfac_core.presets import damping_like, layer_of

RECORDED = Path(__file__).parent / "recorded"
DATA = json.loads((RECORDED / "data.json").read_text())
PRODUCTS = json.loads((RECORDED / "mlx_kfac.json").read_text())["products"]
OF_SINGLE = 2 * N * T * 2.0**-24
"""Rounding of a factor in float32, relative to its largest entry."""


def params(kind, tensors):
    """Weights, there ``[out, ..., in]``, and bias, as ours."""
    weights, bias = map(np.asarray, tensors)
    return np.transpose(weights, (1, 2, 3, 0) if kind == "images" else (1, 0)), bias


def condition(block, state, like):
    """The condition of the damped block, as `multiply_inverse` has it."""
    weights, bias = like
    columns = []
    for unit in np.eye(weights.size + bias.size):
        own = unit[: weights.size].reshape(weights.shape), unit[weights.size :]
        columns.append([*map(np.ravel, block.multiply_inverse(state, own))])
    return np.linalg.cond([np.concatenate(each) for each in columns])


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("rule", ["constant", "pi"])
def test_a_product_with_the_inverse_is_that_of_mlx_kfac(kind, rule):
    made, block = PRODUCTS[kind], MAKE[kind](has_bias=True)
    x, g = (np.asarray(DATA[kind][part]) for part in ("x", "g"))
    places = {"linear": (), "tokens": (T,), "images": (T, 1)}[kind]
    sources = N * g.reshape(N, *places, OUT)
    damping = damping_like(
        "mlx-kfac",
        made["damping"],
        layer_of(block),
        num_cases=N,
        positions=T if places else 1,
        rule=rule,
    )
    block = replace(block, damping_type=damping.damping_type)
    state = block.update_covs(block.init(like=x), x, sources, ema_decay=0.0)
    state = block.update_inverses(state, damping.damping)
    vector, wanted = (params(kind, made[part]) for part in ("vector", rule))
    found = block.multiply_inverse(state, vector)
    # What two solutions, and the factors, are off, grows with the condition.
    precision = 3 * OF_SINGLE * condition(block, state, vector)
    for own, theirs in zip(found, wanted, strict=True):
        atol = precision * np.abs(theirs).max()
        np.testing.assert_allclose(own * damping.factor, theirs, rtol=0, atol=atol)
