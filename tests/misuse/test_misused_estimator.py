"""Every verb of the estimator, with each argument as it cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from bad_values import NOTHINGS, choice, flag, power, size
from given_models import (
    LAYER,
    LOSS,
    MODEL,
    SITE,
    collection,
    problem,
)
from walk import Call

import kfac_core as kc
from kfac_core.estimator import rolling, summary

LABELS = ("FisherEstimator", LAYER, SITE, LOSS, "linearization")


@pytest.fixture
def given(rng):
    return problem(rng)


@pytest.fixture
def estimator():
    return kc.FisherEstimator(
        collection(), compute_cholesky=True, compute_cholesky_inverse=True
    )


@pytest.fixture
def linearization(given):
    return MODEL.linearize(*given)


@pytest.fixture
def noise(estimator, linearization, rng):
    shapes = estimator.noise_shapes(linearization)
    return {site: rng.uniform(size=shape) for site, shape in shapes.items()}


@pytest.fixture
def state(estimator, given, linearization, noise):
    state = estimator.init(given[0])
    state = estimator.update_covs(state, linearization, 0.5, noise=noise)
    return estimator.update_inverses(state, 0.1)


@pytest.fixture
def states(kinds, state):
    other = kc.LayerCollection.of({"w": (3, 2)})
    other = other.register_fully_connected("w", "other", name="other")
    other = other.register_squared_error_loss("outputs")
    other = kc.FisherEstimator(other).init({"w": np.ones((3, 2))})
    blocks = next(iter(other.blocks.values()))
    return kinds.state(
        other=other,
        block=state.blocks[LAYER],
        blocks=state._replace(blocks={LAYER: blocks}),
        emptied=state._replace(blocks={}),
        listed=state._replace(blocks=[state.blocks[LAYER]]),
        cases=state._replace(cases=None),
    )


def call(estimator, verb, arguments, faults, **options):
    options = {"label": LABELS, **options}
    return Call(
        f"FisherEstimator.{verb}",
        getattr(estimator, verb),
        arguments,
        faults,
        **options,
    )


READ = {"vectors": ("vector",), "exp": ("matpower",)}


def layers(kinds):
    return {
        "None": None,
        "unknown": ("other",),
        "number": 1,
        "numbers": (1,),
        "nothing": (None,),
        "a list in it": ([],),
        "object": object(),
        "string": "dense",
        "type": tuple,
    }


def dampings(kinds):
    nested = {f"of a layer: {k}": {LAYER: v} for k, v in kinds.scalar().items()}
    others = {"unknown": {"other": 1.0}, "one more": {LAYER: 1.0, "other": 1.0}}
    return kinds.scalar() | nested | others | {"no layer": {}}


UNUSED = ("NaN", "infinity", "minus infinity")  # values are not asked for


def test_init(walked, kinds, estimator, given):
    params = given[0]
    faults = {"params": kinds.named(params, *UNUSED)}
    walked(call(estimator, "init", {"params": params}, faults))


READERS = {
    "update_inverses": {"damping": 0.1, "layers": (LAYER,), "tolerance": 0.1},
    "inverse_errors": {"damping": 0.1},
    "multiply_matpower": {"exp": -1},
    "multiply": {},
    "multiply_inverse": {},
    "multiply_cholesky": {"transpose": True},
    "multiply_cholesky_inverse": {"transpose": True},
}


@pytest.mark.parametrize("verb", READERS)
def test_readers(walked, kinds, estimator, state, states, given, verb):
    arguments = {"state": state, **READERS[verb]}
    if verb.startswith("multiply"):
        arguments["vectors"] = given[0]
    known = {
        "state": states,
        "vectors": kinds.named(given[0]),
        "damping": dampings(kinds),
        "layers": layers(kinds),
        "tolerance": kinds.scalar(),
        "exp": power() | {"not served": 2},
        "transpose": flag(),
    }
    faults = {argument: known[argument] for argument in arguments}
    made = call(estimator, verb, arguments, faults, words=READ)
    if "tolerance" in faults:
        made = made.allowing("tolerance", "None").allowing("layers", "None")
    walked(made)


def test_merge(walked, estimator, state, states):
    def merged(state, others):
        return estimator.merge(state, *others)

    arguments = {"state": state, "others": (state,)}
    faults = {"state": states, "others": {k: (v,) for k, v in states.items()}}
    made = call(estimator, "merge", arguments, faults, words={"others": ("state",)})
    walked(replace(made, function=merged))


def weights(kinds):
    largest = {"of no use": 1e200}
    nested = {f"of a layer: {k}": {LAYER: v} for k, v in kinds.scalar().items()}
    return kinds.scalar() | largest | nested | {"no layer": {}}


def test_update_covs(walked, kinds, estimator, state, states, linearization, noise):
    arguments = {
        "state": state,
        "linearization": linearization,
        "ema_decay": 0.5,
        "ema_weight": {LAYER: 1.0},
        "noise": noise,
        "layers": (LAYER,),
    }
    faults = {
        "state": states,
        "linearization": NOTHINGS | {"number": 1.0, "list": [], "array": np.ones(2)},
        "ema_decay": kinds.scalar(upper=1.0),
        "ema_weight": weights(kinds),
        "noise": noises(kinds, noise),
        "layers": layers(kinds),
    }
    made = call(estimator, "update_covs", arguments, faults)
    made = made.allowing("ema_weight", "None", "of a layer: None")
    # Sites that the model has no more need no numbers.
    walked(made.allowing("layers", "None").allowing("noise", "a name more"))


def noises(kinds, noise):
    above = noise[SITE] + 1.0
    more = {"above": {SITE: above}, "below": {SITE: -above}}
    return kinds.named(noise) | more


@pytest.mark.parametrize("mode", ["gradients", "exact"])
def test_keys(walked, kinds, given, linearization, mode):
    estimator = kc.FisherEstimator(collection(), mode)
    state, rng = estimator.init(given[0]), np.random.default_rng(0)
    arguments = {
        "state": state,
        "linearization": linearization,
        "ema_decay": 0.5,
        "key": rng if mode == "gradients" else None,
    }
    keys = {**keys_that_are_none(), "another's": np.random}
    if mode == "exact":
        keys = {"generator": rng}  # nothing draws from it
    made = call(estimator, "update_covs", arguments, {"key": keys})
    walked(made.allowing("key", *(["generator"] if mode == "exact" else [])))


def keys_that_are_none():
    return NOTHINGS | {"zero": 0, "integer": 7, "list": [], "array": np.zeros(2, "u4")}


def test_noise_shapes(walked, estimator, linearization):
    arguments = {"linearization": linearization}
    faults = {"linearization": NOTHINGS | {"number": 1.0, "array": np.ones(2)}}
    walked(call(estimator, "noise_shapes", arguments, faults))


def test_check_vector(walked, kinds, estimator, given):
    arguments = {"vectors": given[0], "argument": "vectors"}
    faults = {"vectors": kinds.named(given[0], *UNUSED)}
    walked(call(estimator, "check_vector", arguments, faults))


def test_summary(walked, estimator, state, states):
    arguments = {"estimator": estimator, "state": state}
    faults = {
        "estimator": NOTHINGS | {"state": state, "number": 1.0},
        "state": states,
    }
    walked(Call("summary", summary, arguments, faults, label=("summary", *LABELS)))


def test_rolling(walked):
    arguments = {"step": 3, "names": ("a", "b", "c"), "per_step": 2}
    faults = {
        "step": size() | {"array": np.ones(2)},
        "names": NOTHINGS | {"number": 1, "array": np.ones(2), "none": ()},
        "per_step": size(),
    }
    made = Call("rolling", rolling, arguments, faults, label="rolling")
    walked(made.allowing("step", "zero").allowing("names", "string"))


def test_flags_of_a_state(walked, state):
    arguments = {"name": "cov_ok", "layers": (LAYER,)}
    faults = {
        "name": choice("ok", "cov"),
        "layers": layers(None) | {"none": ()},
    }
    made = Call("EstimatorState.flag", state.flag, arguments, faults)
    walked(made.allowing("layers", "None"))


OPTIONS = {
    "layer_collection": NOTHINGS
    | {"empty": kc.LayerCollection.of({"w": (3, 2)}), "number": 1.0},
    "estimation_mode": choice("Gradients", "exact_ggn"),
    "num_samples": size(),
    "matpowers": {k: v for k, v in power().items() if k != "array"},
    "compute_cholesky": flag(),
    "compute_cholesky_inverse": flag(),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(walked, option):
    arguments = {
        "layer_collection": collection(),
        "estimation_mode": "gradients",
        "num_samples": 1,
        "matpowers": (-1,),
        "compute_cholesky": False,
        "compute_cholesky_inverse": False,
    }
    faults = {option: OPTIONS[option]}
    made = Call("FisherEstimator", kc.FisherEstimator, arguments, faults)
    made = replace(made, words={"layer_collection": ("the collection",)})
    walked(made.allowing(*{"matpowers": ("matpowers", "list")}.get(option, (option,))))
