"""What a model gives, each part of it as it cannot be: an adapter's faults."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bad_values import NOTHINGS, size
from given_models import (
    LAYER,
    LOSS,
    SITE,
    Giving,
    collection,
    giving,
    pieces_of,
    problem,
)
from given_models import MODEL as RIGHT
from given_models import WORDS as OF_PARTS
from walk import Call

import kfac_core as kc

LABELS = ("linearization", LAYER, LOSS, "KfacOptimizer")
WORDS = OF_PARTS | {
    "param_gradients": ("gradient of dense_0/weights", "product of dense_0/weights"),
    "param_gradients_change": ("product of dense_0/weights",),
    "masks": ("mask",),
}


@pytest.fixture
def given(rng):
    return problem(rng)


@pytest.fixture
def pieces(given):
    return pieces_of(RIGHT.linearize(*given), given[0])


def faults_of(kinds, pieces, *names):
    """Return what each part of a linearization cannot be."""
    made = {name: kinds.named(pieces[name]) for name in pieces if name != "batch_size"}
    made["batch_size"] = size() | {"array of one": np.asarray(4), "another": 5}
    for site in ("masks", "targets"):
        made[site].pop("no names")  # none is needed
    return {name: made[name] for name in names}


def allowing(call):
    """Allow what is right: other sites, masks of booleans and integers, and none."""
    for name in call.faults.keys() - {"batch_size", *OF_PARAMS}:
        call = call.allowing(name, "a name more")
    if "targets" in call.faults:
        call = call.allowing("targets", f"{SITE}: booleans", f"{SITE}: integers")
    if "masks" in call.faults:
        call = call.allowing(
            "masks",
            "a name less",
            "another name",
            f"{SITE}: booleans",
            f"{SITE}: integers",
        )
    return call


def walk_of(kinds, pieces, verb, function, *names, **options):
    arguments = {name: pieces[name] for name in names}
    faults = faults_of(kinds, pieces, *names)
    call = Call(verb, function, arguments, faults, label=LABELS, words=WORDS, **options)
    return allowing(call)


OF_PARAMS = ("param_gradients", "param_gradients_change")
COMMON = ("batch_size", "loss_inputs", "masks")


def test_update_covs(walked, kinds, given, pieces):
    estimator = kc.FisherEstimator(collection(), "empirical")
    state = estimator.init(given[0])

    def update(**some):
        return estimator.update_covs(state, giving({**pieces, **some}), 0.5)

    names = (*COMMON, "targets", "layer_inputs", "output_gradients")
    walked(walk_of(kinds, pieces, "Linearization (update_covs)", update, *names))


COMPUTER = {
    "multiply_fisher": ("push_forward", "param_gradients"),
    "multiply_fisher_factor": ("param_gradients",),
    "multiply_fisher_factor_transpose": ("push_forward",),
    "multiply_ggn": ("push_forward", "param_gradients"),
    "multiply_ggn_factor": ("param_gradients",),
    "multiply_ggn_factor_transpose": ("push_forward",),
    "multiply_hessian": ("push_forward", "param_gradients", "param_gradients_change"),
    "fisher_factor_inner_shapes": (),
    "ggn_factor_inner_shapes": (),
}


@pytest.mark.parametrize("verb", COMPUTER)
def test_products(walked, kinds, given, pieces, verb):
    computer = kc.CurvatureMatrixVectorProductComputer(collection())
    vectors = () if verb.endswith("shapes") else (given[0],)
    if verb.endswith("factor"):
        vectors = ({SITE: pieces["loss_inputs"][SITE]},)

    def multiply(**some):
        return getattr(computer, verb)(giving({**pieces, **some}), *vectors)

    names = () if verb.endswith("shapes") else ("masks",)
    names = ("loss_inputs", *names, *COMPUTER[verb])
    call = walk_of(kinds, pieces, f"Linearization ({verb})", multiply, *names)
    if verb.endswith("shapes"):  # of what is there, the shape alone is asked for
        only = {k: v for k, v in call.faults["loss_inputs"].items() if not is_array(v)}
        call = replace(call, faults={"loss_inputs": only}, allowed={})
    walked(call)


def is_array(value):
    return isinstance(value, dict) and hasattr(value.get(SITE), "shape")


@pytest.mark.parametrize("momentum_type", ["regular", "qmodel"])
def test_steps(walked, kinds, given, pieces, momentum_type):
    rates = {"regular": 0.1, "qmodel": None}
    optimizer_of = lambda pieces: kc.KfacOptimizer(  # noqa: E731
        Giving(giving(pieces)),
        collection(),
        damping=0.1,
        momentum_type=momentum_type,
        learning_rate=rates[momentum_type],
        estimation_mode="exact",
    )
    state = optimizer_of(pieces).init(given[0])

    def step(**some):
        return optimizer_of({**pieces, **some}).step(state, *given)[1]

    names = (*COMMON, "targets", "layer_inputs", "output_gradients", "param_gradients")
    if momentum_type == "qmodel":
        names = (*names, "push_forward")
    walked(walk_of(kinds, pieces, "Linearization (step)", step, *names))


def test_what_is_no_linearization(walked, given):
    def step(linearization):
        model = Giving(linearization)
        optimizer = kc.KfacOptimizer(
            model, collection(), damping=0.1, learning_rate=0.1
        )
        rng = np.random.default_rng(0)
        return optimizer.step(optimizer.init(given[0]), *given, key=rng)[1]

    right = RIGHT.linearize(*given)
    lacking = {
        f"without {name}": SimpleNamespace(
            **{
                other: getattr(right, other)
                for other in dir(right)
                if not other.startswith("_") and other != name
            }
        )
        for name in (*COMMON, "targets", "layer_inputs", "output_gradients")
    }
    faults = NOTHINGS | {"number": 1.0, "array": np.ones(2)} | lacking
    walked(
        Call(
            "Model.linearize",
            step,
            {"linearization": right},
            {"linearization": faults},
            label="linearization",
        )
    )
