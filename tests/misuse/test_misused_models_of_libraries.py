"""Models, estimator and optimiser of each array library, and compiled."""

import numpy as np
import pytest
from bad_values import Kinds
from given_models import (
    LAYER,
    LOSS,
    MODEL,
    SITE,
    Giving,
    collection,
    giving,
    pieces_of,
    problem,
)
from given_models import WORDS as OF_PARTS
from walk import Call

import kfac_core as kc

# The reference checks its parameters itself.
LABELS = ("KfacOptimizer", "FisherEstimator", "linearization", LAYER, LOSS, "Dense")
WORDS = OF_PARTS | {
    "vectors": ("vector",),
    "params": (LOSS,),
    "param_gradients": ("product of",),
}
PIECES = ("layer_inputs", "loss_inputs", "targets", "output_gradients")
OF_LIBRARY = (
    "None",
    "no axes",
    "booleans",
    "integers",
    "complex",
    "another library",
    "another device",
    "NaN",
)
"""What libraries may answer unlike each other."""

FORMS = ("no axes", "an axis more", "too wide", "a case less", "complex")
"""What is wrong of an array whatever its values are."""


def kept(faults, names):
    """Return the faults of these names, of whichever part."""
    return {k: v for k, v in faults.items() if k.rpartition(": ")[2] in names}


def faults_of(kinds, arguments, names):
    return {name: kept(kinds.named(x), names) for name, x in arguments.items()}


def optimizer_of(model, **options):
    chosen = {"damping": 0.1, "learning_rate": 0.1, "estimation_mode": "exact"}
    return kc.KfacOptimizer(model, collection(), **{**chosen, **options})


def call_of(verb, function, arguments, faults):
    call = Call(verb, function, arguments, faults, label=LABELS, words=WORDS)
    numbers = {f"{SITE}: integers", f"{SITE}: booleans"}  # of the normal loss
    found = numbers & faults.get("targets", {}).keys()
    return call.allowing("targets", *found) if found else call


def test_what_a_model_gives(walked, plain_library, library_kinds, rng):
    params, batch = problem(rng, plain_library.asarray)
    pieces = pieces_of(MODEL.linearize(params, batch), params)
    estimator = kc.FisherEstimator(collection(), "empirical")
    computer = kc.CurvatureMatrixVectorProductComputer(collection())
    state = estimator.init(params)

    def update(**some):
        return estimator.update_covs(state, giving({**pieces, **some}), 0.5)

    def multiply(**some):
        return computer.multiply_fisher(giving({**pieces, **some}), params)

    functions = {update: PIECES, multiply: ("push_forward", "param_gradients")}
    for function, names in functions.items():
        arguments = {name: pieces[name] for name in names}
        faults = faults_of(library_kinds, arguments, OF_LIBRARY)
        walked(call_of("Linearization", function, arguments, faults))


def test_products_and_steps(walked, plain_library, library_kinds, rng):
    params, batch = problem(rng, plain_library.asarray)
    optimizer = optimizer_of(MODEL)
    state, *_ = optimizer.step(optimizer.init(params), params, batch)
    arguments = {"state": state.estimator, "vectors": params}
    faults = faults_of(library_kinds, {"vectors": params}, OF_LIBRARY)
    multiply = optimizer.estimator.multiply_inverse
    walked(call_of("FisherEstimator.multiply_inverse", multiply, arguments, faults))
    one = plain_library.asarray(np.asarray(0.5))
    arguments = {"params": params, "gradient": params, "loss": one, "damping": one}
    named = dict.fromkeys(("params", "gradient"), params)
    faults = faults_of(library_kinds, named, OF_LIBRARY)
    names = {"an array of NaN", "two numbers", "booleans", "a complex array"}
    names |= {"another library", "another device", "string", "huge"}
    scalars = kept(library_kinds.scalar(lower=None), names)
    faults |= {"loss": scalars, "damping": scalars}

    def step(**given):
        return optimizer.step(state, batch=batch, **given)[1]

    call = call_of("KfacOptimizer.step", step, arguments, faults)
    walked(call.allowing("gradient", "None"))


@pytest.mark.parametrize("name", [*PIECES, "param_gradients"])
def test_forms_are_checked_under_a_trace(walked, jax, name, rng):
    params, batch = problem(rng, jax.numpy.asarray)
    pieces = pieces_of(MODEL.linearize(params, batch), params)
    state = optimizer_of(MODEL).init(params)

    def step(**some):
        def traced(some, state, params):
            model = Giving(giving({**pieces, **some}))
            return optimizer_of(model).step(state, params, batch)[1]

        return jax.eval_shape(traced, some, state, params) and ()

    arguments = {name: pieces[name]}
    faults = faults_of(Kinds(jax.numpy.asarray), arguments, FORMS)
    walked(call_of("Linearization (step)", step, arguments, faults))
