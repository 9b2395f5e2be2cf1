"""One step of the estimator and of the optimiser on the arrays of a library."""

import functools
from typing import Any

import numpy as np

from kfac_core.estimator import FisherEstimator
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.optimizer import KfacOptimizer
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh
from kfac_core.testing.candidate import Candidate
from kfac_core.testing.families import agrees, drawn

MODEL = SequentialModel(Sequential((Dense(3, 4), Tanh(), Dense(4, 3))))
DATA = (*drawn((8, 3)), np.asarray([0, 2, 1, 1, 0, 2, 2, 1]))
"""Inputs and labels of a batch."""


def params() -> dict[str, Any]:
    """Return the parameters of the model, as float64 arrays of NumPy."""
    shapes = {
        name: shape
        for names, layer in zip(MODEL.names, MODEL.network.param_layers, strict=True)
        for name, shape in zip(names, layer.param_shapes, strict=False)
    }
    return dict(zip(shapes, drawn(*shapes.values()), strict=True))


def step_of_estimator(data: Any, params: dict[str, Any]) -> Any:
    """Return the parameters times the inverse of the exact Fisher's blocks."""
    estimator = FisherEstimator(_collection(), estimation_mode="exact")
    state = estimator.init(params)
    state = estimator.update_covs(state, MODEL.linearize(params, Batch(*data)), 0.9)
    state = estimator.update_inverses(state, damping=0.1)
    return estimator.multiply_inverse(state, params)


def step_of_optimizer(data: Any, params: dict[str, Any]) -> Any:
    """Return the parameters after two steps of which each adapts the damping."""
    optimizer = KfacOptimizer(
        MODEL,
        _collection(),
        momentum_type="qmodel",
        damping=0.1,
        adapt_damping=True,
        damping_adaptation_interval=1,
        estimation_mode="exact",
        invert_every=1,
    )
    state = optimizer.init(params)
    for _ in range(2):
        state, params, _ = optimizer.step(state, params, Batch(*data))
    return params


def estimator_takes_a_step(candidate: Candidate) -> None:
    """One step of the estimator, as with NumPy's arrays."""
    agrees(candidate, step_of_estimator, DATA, params())


def optimizer_takes_a_step(candidate: Candidate) -> None:
    """Two steps of the optimiser, which adapts its damping, as with NumPy's arrays."""
    agrees(candidate, step_of_optimizer, DATA, params())


CHECKS = (estimator_takes_a_step, optimizer_takes_a_step)


@functools.cache
def _collection() -> Any:
    return MODEL.layer_collection(CategoricalLogitsNegativeLogProbLoss())
