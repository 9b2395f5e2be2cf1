"""Replay a recorded run of the original's optimiser.

The network is ``x @ W1 + b1 -> tanh -> @ W2 + b2``, the batch the same in every step.
Two things of the recordings differ by definition, and are undone here:

- the recorded normal loss is the summed squared error alone, while the library's has
  the normaliser ``log(2 pi var) / 2`` of each output as well;
- the change predicted for the types ``regular`` and ``adam`` is that of the damped
  blocks, which the library offers beside the exact one.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from case import Case

from kfac_core import loss_functions
from kfac_core.optimizer import KfacOptimizer
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

VARIANCE = 0.5

LOSSES = {
    "normal": loss_functions.NormalMeanNegativeLogProbLoss(VARIANCE),
    "categorical": loss_functions.CategoricalLogitsNegativeLogProbLoss(),
}

NAMES = {
    "dense_0/weights": "W1",
    "dense_0/bias": "b1",
    "dense_1/weights": "W2",
    "dense_1/bias": "b2",
}

TOLD = {
    "damping": "damping",
    "learning_rate": "learning_rate",
    "momentum": "momentum",
    "rho": "rho",
    "qmodel_change": "predicted_change",
}


def options_of(case: Case) -> dict[str, Any]:
    """Return the recorded options as those of `KfacOptions`."""
    options = dict(case.spec["options"])
    if not options.pop("use_weight_decay", False):
        options.pop("weight_decay_coeff", None)
    return {"invert_every": 1, "predicted_change": "blocks", **options}


def trajectory(case: Case, convert: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    """Yield all that was recorded of a run, step by step."""
    x, y = convert(case.inputs["X"]), convert(case.inputs["Y"])
    start = {name: case.inputs[f"init/{key}"] for name, key in NAMES.items()}
    hidden, outputs = start["dense_0/bias"].size, start["dense_1/bias"].size
    network = Sequential((Dense(x.shape[1], hidden), Tanh(), Dense(hidden, outputs)))
    model = SequentialModel(network)
    optimizer = KfacOptimizer(
        model,
        model.layer_collection(LOSSES[case.spec["loss"]]),
        estimation_mode=case.spec["estimation_mode"],
        **options_of(case),
    )
    normaliser = 0.0
    if case.spec["loss"] == "normal":
        normaliser = outputs * math.log(2 * math.pi * VARIANCE) / 2
    params = {name: convert(array) for name, array in start.items()}
    state, batch = optimizer.init(params), Batch(x, y)
    for t in range(case.spec["steps"]):
        state, params, told = optimizer.step(state, params, batch, prev_batch=batch)
        yield f"loss/{t}", told.loss - normaliser
        for name, key in NAMES.items():
            yield f"params/{t}/{key}", params[name]
        for key, field in TOLD.items():
            if f"{key}/{t}" in case.outputs:
                yield f"{key}/{t}", getattr(told, field)
