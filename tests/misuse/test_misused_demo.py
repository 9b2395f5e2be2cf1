"""The demonstration's optimisers, a run, and the picture, as they cannot be asked."""

import numpy as np
import pytest
from bad_values import HUGE, NOTHINGS, Kinds, flag, size
from walk import Call

import kfac_core as kc
from kfac_core.reference import Batch

pytest.importorskip("rich")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from kfac_core.demo.digits import Digits, load_digits
from kfac_core.demo.optimizers import KFAC, SGD, Adam
from kfac_core.demo.picture import draw
from kfac_core.demo.training import COLLECTION, MODEL, Epoch, Run, train

NUMBERS = NOTHINGS | {
    "NaN": np.nan,
    "infinity": np.inf,
    "below": -0.5,
    "huge": HUGE,
    "complex": 1j,
    "flag": True,
    "list": [0.5],
}
WORDS = {key: x for key, x in NOTHINGS.items() if key != "string"} | {"number": 1.0}
GRIDS = NOTHINGS | {"number": 1.0, "empty": (), "of words": ("a",), "of zero": (0.0,)}
BELOW_ONE = NUMBERS | {"one": 1.0}
SPECS = {
    "SGD": (SGD, {"momentum": BELOW_ONE}),
    "Adam": (Adam, {"beta1": BELOW_ONE, "beta2": BELOW_ONE, "epsilon": NUMBERS}),
    "KFAC": (KFAC, {}),
}
RIGHT = {
    "SGD": SGD(MODEL, COLLECTION),
    "Adam": Adam(MODEL, COLLECTION),
    "KFAC": KFAC.tuned(MODEL, COLLECTION),
}
SETTING = {"SGD": "learning_rate", "Adam": "learning_rate", "KFAC": "damping"}
LABELS = (
    "demo",
    "FisherEstimator",
    "KfacOptimizer",
    "Conv2D",
    "Dense",
    "conv",
    "dense",
)
VERBS = ("train", "draw", "init", "step", "stats")


@pytest.mark.parametrize("name", SPECS)
def test_options(walked, name):
    make, own = SPECS[name]
    objects = ("optimizer",) if name == "KFAC" else ("model", "collection")
    faults = dict.fromkeys(objects, NOTHINGS | {"number": 1.0}) | own
    faults |= {"name": WORDS, "setting": WORDS, "grid": GRIDS}
    right = {option: getattr(RIGHT[name], option) for option in faults}
    walked(Call(name, make, right, faults, label="demo"))


@pytest.fixture
def batch(rng):
    x = rng.normal(size=(8, 8, 8, 1)).astype(np.float32)
    return Batch(x, rng.integers(0, 10, 8).astype(np.int32))


@pytest.fixture
def params(rng):
    return MODEL.init(rng, like=np.zeros(1, np.float32))


@pytest.mark.parametrize("name", SPECS)
def test_verbs(walked, kinds, batch, params, rng, name):
    optimizer, setting = RIGHT[name], SETTING[name]
    state, noise = optimizer.init(params, 0.1), rng.random(8, dtype=np.float32)
    right = {"params": params, setting: 0.1}
    unused = ("NaN", "infinity", "minus infinity")
    faults = {"params": kinds.named(params, *unused), setting: NUMBERS}
    label = {"label": LABELS}
    calls = [Call(f"{name}.init", optimizer.init, right, faults, **label)]
    states = {"state": NOTHINGS | {"number": 1.0, "an array": np.ones(2)}}
    calls.append(
        Call(f"{name}.stats", optimizer.stats, {"state": state}, states, **label)
    )
    right = right | {"state": state, "batch": batch, "noise": noise}
    faults = (
        faults
        | states
        | {
            "noise": NOTHINGS | {"number": 1.0, "list": [0.5], "complex": noise * 1j},
            "batch": NOTHINGS | {"number": 1.0},
            setting: Kinds(np.array).scalar(),
        }
    )
    if name == "KFAC":  # adapted by the state alone
        faults.pop(setting)
    call = Call(f"{name}.step", optimizer.step, right, faults, **label)
    calls.append(call.labelled(*LABELS, "SequentialModel"))
    walked(*calls)


@pytest.fixture
def digits():
    whole = load_digits(kc.load_backend("numpy"), 0)
    return Digits(*(part[:128] for part in whole))


def test_runs(walked, digits):
    right = {
        "backend": kc.load_backend("numpy"),
        "digits": digits,
        "optimizer": RIGHT["SGD"],
        "value": 0.1,
        "epochs": 1,
        "seed": 0,
        "jit": False,
        "on_epoch": lambda: None,
    }
    things = NOTHINGS | {"number": 1.0, "list": []}
    parts = {"None": None, "a word": "x", "too small": digits.x_train[:, :4]}
    seeds = NOTHINGS | {"fraction": 0.5, "below": -1, "flag": True, "list": [1]}
    faults = {
        "backend": things | {"module": np},
        "digits": things
        | {f"images: {k}": digits._replace(x_train=x) for k, x in parts.items()}
        | {"labels less": digits._replace(y_train=digits.y_train[1:])},
        "optimizer": things | {"class": SGD},
        "value": NUMBERS | {"zero": 0.0},
        "epochs": size(),
        "seed": seeds,
        "jit": flag(),
        "on_epoch": {k: x for k, x in things.items() if k != "type"},
    }
    walked(Call("train", train, right, faults, label="demo"))


def test_the_picture(walked, tmp_path, params):
    epochs = [Epoch(n, 0.1, 1.0 / (n + 1), 0.5, params, {}) for n in range(2)]
    stats = [epoch._replace(stats={"damping": 0.1}) for epoch in epochs]
    runs = [
        Run("SGD", "learning rate", 0.1, tuple(epochs)),
        Run("K-FAC", "damping", 0.1, tuple(stats)),
    ]
    matrix = np.eye(3)
    right = {"path": tmp_path / "a.png", "runs": runs, "fishers": (matrix, matrix)}
    things = NOTHINGS | {"number": 1.0, "list": []}
    faults = {
        "path": {k: x for k, x in things.items() if k != "string"},
        "runs": things
        | {"of no runs": [1.0], "no epochs": [runs[0]._replace(epochs=())]},
        "fishers": things
        | {
            "one": (matrix,),
            "rows": (matrix[0], matrix[0]),
            "unlike": (matrix, np.eye(4)),
            "words": ("a", "b"),
        },
    }
    walked(Call("draw", draw, right, faults, label="demo"))
