"""Small problems for the optimiser, and the dense truth about them."""

import numpy as np

from kfac_core import loss_functions
from kfac_core.optimizer import KfacOptimizer
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

CATEGORICAL = loss_functions.CategoricalLogitsNegativeLogProbLoss()
NORMAL = loss_functions.NormalMeanNegativeLogProbLoss(var=0.5)

LINEAR = SequentialModel(Sequential((Dense(2, 1, has_bias=False),)))
DEEP = SequentialModel(Sequential((Dense(4, 5), Tanh(), Dense(5, 3))))

# For compilers, whose time grows with the number of layers.
SHALLOW = SequentialModel(Sequential((Dense(4, 3),)))

WEIGHTS = "dense_0/weights"


def problem(library, loss=CATEGORICAL, dtype="float64", seed=0, model=DEEP):
    """Return parameters of a model and a batch for it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 4)).astype(dtype)
    y = rng.integers(3, size=12).astype(np.int32)
    if loss is not CATEGORICAL:
        y = rng.normal(size=(12, 3)).astype(dtype)
    params = model.init(rng, like=np.zeros(1, dtype))
    return (
        {name: library.asarray(tensor) for name, tensor in params.items()},
        Batch(library.asarray(x), library.asarray(y)),
    )


def optimizer_of(model=DEEP, loss=CATEGORICAL, **options):
    """Return an optimiser, exact and with fresh inverses unless told otherwise."""
    defaults = {
        "damping": 0.5,
        "estimation_mode": "exact",
        "invert_every": 1,
        "momentum_type": "regular",
    }
    merged = {**defaults, **options}
    if not str(merged["momentum_type"]).startswith("qmodel"):
        merged.setdefault("learning_rate", 0.1)
    return KfacOptimizer(model, model.layer_collection(loss), **merged)


def run(optimizer, params, batch, steps, **given):
    """Return the last state and parameters, and the statistics of every step."""
    state, told = optimizer.init(params), []
    for _ in range(steps):
        state, params, statistics = optimizer.step(state, params, batch, **given)
        told.append(statistics)
    return state, params, told


def linear_problem(library):
    """Return the least squares of four cases and two weights."""
    x = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0]])
    y = np.asarray([[1.0], [2.0], [0.0], [1.0]])
    params = {WEIGHTS: library.asarray(np.asarray([[0.5], [-0.5]]))}
    return params, Batch(library.asarray(x), library.asarray(y))


def flat(library, params):
    """Return all entries, by name: JAX sorts the keys of what it compiles."""
    return np.concatenate([library.to_numpy(params[k]).ravel() for k in sorted(params)])


def numbers(library, told, field):
    return np.asarray([float(library.to_numpy(getattr(t, field))) for t in told])
