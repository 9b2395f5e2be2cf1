"""Least squares of two weights, step for step as the original ran it in float32."""

import numpy as np
import pytest
from optimizer_cases import (
    LINEAR,
    NORMAL,
    linear_problem,
    numbers,
    optimizer_of,
    run,
)

# Weights after each step; of the quadratic models, whose small systems lose digits in
# float32, the first alone.
RUNS = {
    "regular": (
        {"momentum_type": "regular"},
        [(0.500736, -0.460045), (0.502238, -0.385691), (0.504621, -0.283281)],
    ),
    "adam": (
        {"momentum_type": "adam"},
        [(0.500736, -0.460045), (0.502238, -0.385691), (0.504621, -0.283281)],
    ),
    "regular, constrained": (
        {"momentum_type": "regular", "norm_constraint": 1e-3},
        [(0.500301, -0.483654), (0.500896, -0.452593), (0.5018, -0.408282)],
    ),
    "adam, constrained": (
        {"momentum_type": "adam", "norm_constraint": 1e-3},
        [(0.500301, -0.483654), (0.500614, -0.467306), (0.500939, -0.450956)],
    ),
    "adam, weight decay": (
        {"momentum_type": "adam", "weight_decay_coeff": 0.1},
        [(0.495736, -0.455045), (0.492548, -0.376354), (0.490761, -0.270772)],
    ),
    "qmodel": (
        {"momentum_type": "qmodel"},
        [(0.513885, 0.254194), (0.567027, 0.455305)],
    ),
    "qmodel_fixedmu": (
        {"momentum_type": "qmodel_fixedmu", "momentum": 0.3},
        [(0.513885, 0.254194), (0.514498, 0.466752), (0.562746, 0.56104)],
    ),
    "qmodel, rescaled": (
        {"momentum_type": "qmodel", "qmodel_update_rescale": 0.5},
        [(0.506942, -0.122903)],
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_weights_follow_the_original(name, plain_library):
    options, weights = RUNS[name]
    params, batch = linear_problem(plain_library)
    optimizer = optimizer_of(LINEAR, NORMAL, **options)
    state = optimizer.init(params)
    for wanted in weights:
        state, params, _ = optimizer.step(state, params, batch)
        (got,) = params.values()
        # Six digits are what was written down.
        np.testing.assert_allclose(
            plain_library.to_numpy(got).ravel(), wanted, atol=2e-6
        )


ADAPTED = {
    "adam": (
        {"momentum_type": "adam", "damping_adaptation_interval": 2},
        {
            "damping": [0.5, 0.45125, 0.45125, 0.407253],
            "rho": [np.nan, 1.06478, 1.06478, 1.145145],
            "predicted_change": [np.nan, -0.096414, -0.096414, -0.120109],
        },
    ),
    "regular": (
        {"momentum_type": "regular", "damping_adaptation_interval": 2},
        {"rho": [np.nan, 1.049725], "predicted_change": [np.nan, -0.097796]},
    ),
    "qmodel with l2_reg": (
        {
            "momentum_type": "qmodel",
            "damping_adaptation_interval": 1,
            "l2_reg": 0.1,
        },
        {
            "damping": [0.475, 0.45125, 0.428687],
            "rho": [1.04198, 1.045438, 1.046359],
            "predicted_change": [-0.67771, -0.048929, -0.003329],
        },
    ),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_damping_is_adapted_as_in_the_original(name, plain_library):
    options, wanted = ADAPTED[name]
    params, batch = linear_problem(plain_library)
    optimizer = optimizer_of(
        LINEAR, NORMAL, adapt_damping=True, predicted_change="blocks", **options
    )
    steps = max(map(len, wanted.values()))
    _, _, told = run(optimizer, params, batch, steps)
    for field, values in wanted.items():
        got = numbers(plain_library, told, field)
        np.testing.assert_allclose(got, values, rtol=2e-4, atol=1e-6)
