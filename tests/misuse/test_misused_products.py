"""Exact products and sources, with each argument as it cannot be."""

import numpy as np
import pytest
from bad_values import NOTHINGS, choice
from given_models import LAYER, LOSS, MODEL, SITE, collection, problem
from walk import Call

import kfac_core as kc
from kfac_core.estimator import sources

LABELS = ("CurvatureMatrixVectorProductComputer", "linearization", LAYER, LOSS)
OF_VECTORS = (
    "multiply_fisher",
    "multiply_fisher_factor_transpose",
    "multiply_ggn",
    "multiply_ggn_factor_transpose",
    "multiply_hessian",
)
OF_INNER = ("multiply_fisher_factor", "multiply_ggn_factor")
OF_SHAPES = ("fisher_factor_inner_shapes", "ggn_factor_inner_shapes")
NO_LINEARIZATIONS = NOTHINGS | {"number": 1.0, "list": [], "array": np.ones(2)}


@pytest.fixture
def given(rng):
    return problem(rng)


@pytest.fixture
def linearization(given):
    return MODEL.linearize(*given)


@pytest.mark.parametrize("verb", [*OF_VECTORS, *OF_INNER, *OF_SHAPES])
def test_products(walked, kinds, given, linearization, verb):
    computer = kc.CurvatureMatrixVectorProductComputer(collection())
    arguments = {"linearization": linearization}
    faults = {"linearization": NO_LINEARIZATIONS}
    if verb in OF_VECTORS:
        arguments["vectors"] = given[0]
        faults["vectors"] = kinds.named(given[0])
    if verb in OF_INNER:
        arguments["inner"] = dict(linearization.loss_inputs)
        faults["inner"] = kinds.named(arguments["inner"])
    call = Call(verb, getattr(computer, verb), arguments, faults).labelled(*LABELS)
    if verb in OF_INNER:
        call = call.allowing("inner", "a name more")  # of a loss that is not here
    walked(call)


def test_the_collection_of_products(walked):
    faults = {"layer_collection": NOTHINGS | {"number": 1.0}}
    arguments = {"layer_collection": collection()}
    verb = "CurvatureMatrixVectorProductComputer"
    walked(Call(verb, getattr(kc, verb), arguments, faults).labelled(verb))


@pytest.mark.parametrize("mode", ["gradients", "exact", "empirical"])
def test_sources(walked, kinds, linearization, rng, mode):
    arguments = {
        "collection": collection(),
        "linearization": linearization,
        "mode": mode,
        "noise": {},
    }
    faults = {
        "collection": NOTHINGS | {"number": 1.0},
        "linearization": NO_LINEARIZATIONS,
        "mode": choice("Exact", "ggn"),
    }
    if mode == "gradients":
        shape = (2, *linearization.loss_inputs[SITE].shape)
        noise = {SITE: rng.random((1, *shape))}
        arguments["noise"], faults["noise"] = noise, kinds.named(noise, "a case less")

    def drain(**given):
        return list(sources(**given))

    call = Call("sources", drain, arguments, faults)
    call = call.labelled("FisherEstimator", SITE, *LABELS)
    walked(call.allowing("noise", "a name more") if mode == "gradients" else call)
