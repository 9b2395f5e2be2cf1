"""Every verb of the block-tridiagonal estimator, each argument as it cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from bad_values import NOTHINGS, choice, size
from given_models import LAYER, LOSS, MODEL, SITE, collection, problem
from test_misused_estimator import dampings, keys_that_are_none, layers, noises
from walk import Call

import kfac_core as kc
from kfac_core.estimator import BlockTridiagonalEstimator

NAME = "BlockTridiagonalEstimator"
LABELS = (NAME, "FisherEstimator", LAYER, SITE, LOSS, "linearization")
UNUSED = ("NaN", "infinity", "minus infinity")  # values are not asked for


@pytest.fixture
def given(rng):
    return problem(rng)


@pytest.fixture
def estimator():
    return BlockTridiagonalEstimator(collection())


@pytest.fixture
def linearization(given):
    return MODEL.linearize(*given)


@pytest.fixture
def noise(estimator, linearization, rng):
    shapes = estimator.diagonal.noise_shapes(linearization)
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
    made = BlockTridiagonalEstimator(other).init({"w": np.ones((3, 2))})
    emptied = state.diagonal._replace(blocks={})
    return kinds.state(
        other=made,
        diagonal=state.diagonal,
        emptied=state._replace(diagonal=emptied),
        more=state._replace(cross=(made.damped,)),
        unlinked=state._replace(links=(None,)),
        undamped=state._replace(damped=()),
    )


def call(estimator, verb, arguments, faults):
    function = getattr(estimator, verb)
    said = {"label": LABELS, "words": {"vectors": ("vector",)}}
    return Call(f"{NAME}.{verb}", function, arguments, faults, **said)


def test_init(walked, kinds, estimator, given):
    faults = {"params": kinds.named(given[0], *UNUSED)}
    walked(call(estimator, "init", {"params": given[0]}, faults))


def test_check_vector(walked, kinds, estimator, given):
    arguments = {"vectors": given[0], "argument": "vectors"}
    faults = {"vectors": kinds.named(given[0], *UNUSED)}
    walked(call(estimator, "check_vector", arguments, faults))


READERS = {
    "update_inverses": "damping",
    "multiply_inverse": "vectors",
    "multiply": "vectors",
    "full_fisher": None,
}


@pytest.mark.parametrize("verb", READERS)
def test_readers(walked, kinds, estimator, state, states, given, verb):
    right = {"damping": 0.1, "vectors": given[0]}
    wrong = {"damping": dampings(kinds), "vectors": kinds.named(given[0])}
    names = [READERS[verb]] if READERS[verb] else []
    arguments = {"state": state, **{name: right[name] for name in names}}
    faults = {"state": states, **{name: wrong[name] for name in names}}
    walked(call(estimator, verb, arguments, faults))


def test_update_covs(walked, kinds, estimator, state, states, linearization, noise):
    arguments = {
        "state": state,
        "linearization": linearization,
        "ema_decay": 0.5,
        "ema_weight": 1.0,
        "noise": noise,
    }
    faults = {
        "state": states,
        "linearization": NOTHINGS | {"number": 1.0, "list": [], "array": np.ones(2)},
        "ema_decay": kinds.scalar(upper=1.0),
        "ema_weight": kinds.scalar() | {"of a layer": {LAYER: 1.0}},
        "noise": noises(kinds, noise),
    }
    made = call(estimator, "update_covs", arguments, faults)
    # Sites that the model has no more need no numbers.
    walked(made.allowing("ema_weight", "None").allowing("noise", "a name more"))


def test_merge(walked, estimator, state, states):
    def merged(state, others):
        return estimator.merge(state, *others)

    arguments = {"state": state, "others": (state,)}
    faults = {
        "state": states,
        "others": {what: (given,) for what, given in states.items()},
    }
    made = call(estimator, "merge", arguments, faults)
    words = {**made.words, "others": ("state",)}
    walked(replace(made, function=merged, words=words))


def test_keys(walked, estimator, state, linearization, rng):
    arguments = {
        "state": state,
        "linearization": linearization,
        "ema_decay": 0.5,
        "key": rng,
    }
    keys = {**keys_that_are_none(), "another's": np.random}
    walked(call(estimator, "update_covs", arguments, {"key": keys}))


OPTIONS = {
    "layer_collection": NOTHINGS
    | {"empty": kc.LayerCollection.of({"w": (3, 2)}), "number": 1.0},
    "estimation_mode": choice("Gradients", "exact_ggn"),
    "num_samples": size(),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(walked, option):
    arguments = {
        "layer_collection": collection(),
        "estimation_mode": "gradients",
        "num_samples": 1,
    }
    words = {"layer_collection": ("the collection",)}
    faults = {option: OPTIONS[option]}
    walked(Call(NAME, BlockTridiagonalEstimator, arguments, faults, words=words))


def test_flags_of_a_state(walked, state):
    arguments = {"name": "cov_ok", "layers": (LAYER,)}
    faults = {
        "name": choice("ok", "cov"),
        "layers": layers(None) | {"none": ()},
    }
    made = Call("TridiagonalState.flag", state.flag, arguments, faults)
    walked(made.allowing("layers", "None"))
