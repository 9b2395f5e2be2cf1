"""What dense curvature, and the checks of a model, cannot be given."""

import numpy as np
from bad_values import NOTHINGS
from given_models import MODEL, SITE, collection, problem
from walk import Call

import kfac_core as kc
from kfac_core import reference as ref
from kfac_core.testing import check_linearization


def given():
    params, batch = problem(np.random.default_rng(0))
    return params, batch, MODEL.linearize(params, batch)


def test_dense_curvature(walked):
    *_, linearization = given()
    right = {"collection": collection(), "linearization": linearization}
    faults = {"collection": NOTHINGS, "linearization": NOTHINGS}
    words = {"linearization": ("linearization", "loss_inputs", "batch_size")}
    vectors = {SITE: np.ones((4, 2))}
    bad = {"one row": {SITE: np.ones((1, 2))}}
    walked(
        Call(
            "dense_fisher",
            ref.dense_fisher,
            right | {"kind": "fisher"},
            faults | {"kind": NOTHINGS | {"unknown": "exact"}},
            words=words,
        ),
        Call(
            "case_gradients",
            ref.case_gradients,
            right | {"vectors": vectors},
            faults | {"vectors": bad},
            words=words | {"vectors": ("vector",)},
        ),
    )


def test_dense_blocks(walked):
    params, _, linearization = given()
    estimator = kc.FisherEstimator(collection(), "exact")
    state = estimator.update_covs(estimator.init(params), linearization, ema_decay=0.0)
    right = {"estimator": estimator, "state": state}
    call = Call(
        "dense_blocks",
        ref.dense_blocks,
        right,
        {"estimator": NOTHINGS, "state": NOTHINGS},
    )
    walked(call)


def test_check_linearization(walked):
    params, batch, _ = given()
    right = {
        "model": MODEL,
        "layer_collection": collection(),
        "params": params,
        "batch": batch,
    }
    call = Call(
        "check_linearization",
        check_linearization,
        right,
        dict.fromkeys(right, NOTHINGS),
        words={"params": ("params", "parameter")},
    )
    walked(call)
