"""Replay a recorded run of the original's optimiser.

The network is ``x @ W1 + b1 -> tanh -> @ W2 + b2``, the batch the same in every step.
Two things of the recordings differ by definition, and are undone here:

- the recorded normal loss is the summed squared error alone, while the library's has
  the normaliser ``log(2 pi var) / 2`` of each output as well, beside which the digits
  of a small error are lost: so it is given to the optimiser as the loss to report;
- the change predicted for the types ``regular`` and ``adam`` is that of the damped
  blocks, which the library offers beside the exact one.
"""

from collections.abc import Callable, Iterator
from typing import Any

from case import Case

import kfac_core as kc
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

NO_MATHEMATICS = {
    "batch_size",
    "colocate_gradients_with_ops",
    "compute_params_stats",
    "dtype",
    "is_chief",
    "name",
    "print_logs",
    "use_passed_loss",
}


def options_of(case: Case) -> dict[str, Any]:
    """Return the recorded options as those of `KfacOptions`."""
    options = {
        name: value
        for name, value in case.spec["options"].items()
        if name not in NO_MATHEMATICS
    }
    if options.pop("use_weight_decay", False):
        options.setdefault("weight_decay_coeff", 0.1)
    else:
        options.pop("weight_decay_coeff", None)
    return {"invert_every": 1, "predicted_change": "blocks", **options}


def squared_error(model: SequentialModel) -> Callable[[Any, Batch], Any]:
    """Return the mean over cases of the squared error, summed over outputs."""

    def loss(params: Any, batch: Batch) -> Any:
        outputs = model.linearize(params, batch).loss_inputs["outputs"]
        xp = kc.backend_of(outputs).xp
        return xp.sum((outputs - batch.targets) ** 2) / outputs.shape[0]

    return loss


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
        loss_fn=squared_error(model) if case.spec["loss"] == "normal" else None,
        **options_of(case),
    )
    params = {name: convert(array) for name, array in start.items()}
    state, batch = optimizer.init(params), Batch(x, y)
    for t in range(case.spec["steps"]):
        state, params, told = optimizer.step(state, params, batch, prev_batch=batch)
        yield f"loss/{t}", told.loss
        for name, key in NAMES.items():
            yield f"params/{t}/{key}", params[name]
        for key, field in TOLD.items():
            if f"{key}/{t}" in case.outputs:
                yield f"{key}/{t}", getattr(told, field)
