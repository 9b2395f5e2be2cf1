"""The optimiser: every option, and every argument of a step, as it cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from bad_values import HUGE, NOTHINGS, choice, flag, size
from given_models import LAYER, LOSS, MODEL, SITE, collection, problem
from walk import Call

import kfac_core as kc
from kfac_core.optimizer.options import MOMENTUM_TYPES

LABELS = ("KfacOptimizer", "FisherEstimator", "linearization", LAYER, LOSS, SITE)
SCALAR = NOTHINGS | {
    "NaN": np.nan,
    "infinity": np.inf,
    "minus infinity": -np.inf,
    "below": -0.5,
    "huge": HUGE,
    "complex": 1j,
    "list": [0.5],
    "digit": "0.5",
    "flag": True,
    "two numbers": np.ones(2),
}
UNIT = SCALAR | {"above": 1.5}
COUNT = size() | {"infinity": np.inf, "huge": 0.5}
OPTIONS = {
    "model": NOTHINGS | {"number": 1.0},
    "layer_collection": NOTHINGS | {"number": 1.0},
    "learning_rate": SCALAR,
    "damping": SCALAR
    | {f"of a layer: {name}": {LAYER: value} for name, value in SCALAR.items()}
    | {"another layer": {"other": 1.0}, "one more": {LAYER: 1.0, "other": 1.0}},
    "momentum": UNIT,
    "momentum_type": choice("Nesterov", "reg"),
    "cov_ema_decay": UNIT,
    "weigh_batches": choice("Cases", "equal"),
    "structure": choice("diagonal", "block"),
    "estimation_mode": choice("Exact", "ggn"),
    "num_samples": COUNT,
    "cov_update_every": COUNT,
    "invert_every": COUNT,
    "inverse_tolerance": SCALAR,
    "stagger_inverses": flag(),
    "num_burnin_steps": COUNT,
    "norm_constraint": SCALAR,
    "weight_decay_coeff": SCALAR,
    "qmodel_update_rescale": SCALAR | {"number": 1.0},
    "precon_damping_mult": SCALAR,
    "adapt_damping": flag(),
    "damping_adaptation_interval": COUNT,
    "damping_adaptation_decay": UNIT | {"zero": 0.0},
    "damping_decrease_rho_threshold": SCALAR | {"too small": 0.1},
    "damping_increase_rho_threshold": SCALAR | {"too large": 0.9},
    "min_damping": SCALAR | {"too large": 1e9},
    "max_damping": SCALAR | {"too small": 1e-9},
    "update_damping_immediately": flag(),
    "l2_reg": SCALAR,
    "predicted_change": choice("Exact", "block"),
    "include_damping_in_qmodel_change": flag(),
    "loss_fn": {k: v for k, v in NOTHINGS.items() if k != "type"} | {"number": 1.0},
}
OPTIONAL = ("momentum", "inverse_tolerance", "norm_constraint", "loss_fn")
OPTIONAL = (*OPTIONAL, "qmodel_update_rescale")
RIGHT = {"damping": 0.1, "learning_rate": 0.1, "estimation_mode": "exact"}


def optimizer_of(**options):
    made = {"model": MODEL, "layer_collection": collection(), **RIGHT, **options}
    return kc.KfacOptimizer(**made)


@pytest.mark.parametrize("option", OPTIONS)
def test_options(walked, option):
    right = optimizer_of()
    arguments = {option: getattr(right, option)}
    call = Call("KfacOptimizer", optimizer_of, arguments, {option: OPTIONS[option]})
    call = call.labelled("KfacOptimizer", "FisherEstimator")
    if option in OPTIONAL:
        call = call.allowing(option, "None")
    if option == "num_burnin_steps":
        call = call.allowing(option, "zero")
    if option == "damping_increase_rho_threshold":  # never
        call = call.allowing(option, "below")
    walked(call)


@pytest.fixture
def given(rng):
    return problem(rng)


PARTS = {
    "estimator": {"emptied": lambda s: s.estimator._replace(blocks={})},
    "velocity": {"of no names": lambda s: {}, "None": lambda s: None},
    "damping": {"by layer": lambda s: {LAYER: s.damping}, "None": lambda s: None},
    "counter": {"None": lambda s: None, "number": lambda s: 1.5},
}


def states(kinds, state):
    faults = kinds.state(estimator=state.estimator, statistics=(*state,))
    for field, changes in PARTS.items():
        for name, change in changes.items():
            faults[f"{field}: {name}"] = state._replace(**{field: change(state)})
    return faults


def of_another_momentum_type(optimizer, state, params):
    """Return states, started and new, of all types but that of the optimizer."""
    found = {}
    for kind in MOMENTUM_TYPES:
        if kind != optimizer.momentum_type:
            rate = None if kind.startswith("qmodel") else 0.1
            options = {"momentum_type": kind, "learning_rate": rate}
            other = optimizer_of(damping=optimizer.damping, **options)
            new = other.init(params)
            found[f"new, of {kind}"] = new
            found[f"of {kind}"] = state._replace(made_by=new.made_by)
    return found


TOO_SMALL = {"zero": 0.0, "minus zero": -0.0, "tiny": 1e-320, "almost": 0.99e-8}
UNUSED = {
    "key": NOTHINGS
    | {"zero": 0, "integer": 7, "list": [], "array": np.zeros(2, "u4"), "flag": True},
    "noise": NOTHINGS | {"number": 3, "list": [], "of a site": {SITE: 0.5}},
    "prev_batch": NOTHINGS | {"number": 3, "list": [], "an array": np.ones(2)},
}
"""What a step has no use for, in the mode `exact` and without an adaptation."""


def batches(kinds, batch):
    faults = NOTHINGS | {"number": 1.0, "list": [], "an array": np.ones(2)}
    for part in batch._fields:
        known = kinds.data(np.asarray(getattr(batch, part))) if part != "mask" else {}
        for name, value in known.items():
            faults[f"{part}: {name}"] = batch._replace(**{part: value})
    return faults


NUMBERS = ("learning_rate", "norm_constraint", "weight_decay_coeff")
KINDS = {
    "regular": {"momentum_type": "regular"},
    "qmodel_fixedmu": {"momentum_type": "qmodel_fixedmu", "learning_rate": None},
    "by layer": {"momentum_type": "adam", "damping": {LAYER: 0.1}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_steps(walked, kinds, given, kind):
    optimizer = optimizer_of(**KINDS[kind])
    params, batch = given
    state, *_ = optimizer.step(optimizer.init(params), params, batch)
    arguments = {"state": state, "params": params, "momentum": 0.5}
    faults = {
        "state": states(kinds, state)
        | of_another_momentum_type(optimizer, state, params),
        "params": kinds.named(params),
        "momentum": kinds.scalar(upper=1.0),
        "damping": kinds.scalar() | TOO_SMALL,
        "gradient": kinds.named(params),
        "loss": kinds.scalar(lower=None),
        "update_covs": flag(),
        "update_inverses": flag(),
        **UNUSED,
    }
    if kind == "regular":
        arguments |= dict.fromkeys(NUMBERS, 0.5)
        faults |= dict.fromkeys(NUMBERS, kinds.scalar())
    arguments |= {
        "damping": 0.1 if kind != "by layer" else {LAYER: 0.1},
        "gradient": {name: tensor * 0 + 1 for name, tensor in params.items()},
        "loss": np.asarray(0.5),
        "update_covs": True,
        "update_inverses": True,
        "key": np.random.default_rng(0),
        "noise": {},
        "prev_batch": batch,
    }
    if kind == "by layer":
        nested = {f"{k} there": {LAYER: v} for k, v in faults["damping"].items()}
        faults["damping"] |= nested | {"no layer": {}, "unknown": {"other": 1.0}}

    def step(**given):
        return optimizer.step(batch=batch, **given)[1]

    call = Call("KfacOptimizer.step", step, arguments, faults)
    # The model checks its parameters itself.
    call = call.labelled(*LABELS, "Dense")
    for name in faults.keys() - {"state", "params"}:
        call = call.allowing(name, "None")
    # A loss of NaN parameters is none; and it may be negative.
    words = {"state": ("velocity",), "params": (LOSS,)}
    walked(replace(call, words=words))


def test_batches(walked, kinds, given):
    """The model refuses them, by its own words; what goes through it, a loss or layer.

    Those of a model of one's own are in the walk of models.
    """
    optimizer, (params, batch) = optimizer_of(), given
    state = optimizer.init(params)

    def step(batch):
        return optimizer.step(state, params, batch)[1]

    call = Call(
        "KfacOptimizer.step", step, {"batch": batch}, {"batch": batches(kinds, batch)}
    )
    numbers = ("targets: booleans", "targets: integers")
    call = call.labelled("Dense", "SequentialModel", LAYER, LOSS, "linearization")
    words = ("inputs", "mean", "targets", "batch_size")
    walked(replace(call.allowing("batch", *numbers), words={"batch": words}))


def test_init(walked, kinds, given):
    params = given[0]
    unused = ("NaN", "infinity", "minus infinity")
    faults = {"params": kinds.named(params, *unused)}
    call = Call("KfacOptimizer.init", optimizer_of().init, {"params": params}, faults)
    walked(call.labelled(*LABELS))


LOSSES = SCALAR | {"NaN array": np.asarray(np.nan), "a complex array": np.asarray(1j)}


def test_losses_of_ones_own(walked, given):
    params, batch = given

    def step(loss_fn):
        optimizer = optimizer_of(loss_fn=lambda *_: loss_fn, adapt_damping=True)
        return optimizer.step(optimizer.init(params), params, batch)[1]

    call = Call("loss_fn", step, {"loss_fn": 0.5}, {"loss_fn": LOSSES})
    # A loss may be negative.
    walked(call.labelled(*LABELS).allowing("loss_fn", "below"))


def test_keys_and_noise(walked, kinds, given):
    optimizer = optimizer_of(estimation_mode="gradients")
    shapes = optimizer.estimator.noise_shapes(MODEL.linearize(*given))
    noise = {site: np.random.default_rng(0).random(s) for site, s in shapes.items()}
    state = optimizer.init(given[0])

    def step(**random):
        return optimizer.step(state, *given, **random)[1]

    keys = NOTHINGS | {"zero": 0, "integer": 7, "list": [], "array": np.zeros(2, "u4")}
    rng = np.random.default_rng(0)
    call = Call("KfacOptimizer.step", step, {"key": rng}, {"key": keys})
    walked(call.labelled(*LABELS))
    faults = {"noise": kinds.named(noise)}
    call = Call("KfacOptimizer.step", step, {"noise": noise}, faults)
    walked(call.labelled(*LABELS).allowing("noise", "a name more"))
