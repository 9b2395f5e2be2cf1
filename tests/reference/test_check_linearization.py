"""A model that trains silently badly is told of, by what it does wrong."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.reference import (
    Batch,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Sequential,
    SequentialModel,
    Tanh,
)
from kfac_core.testing import check_linearization

SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
CLASSES, CASES = 3, 4
MODELS = {
    "dense": ((Dense(2, 4), Tanh(), Dense(4, CLASSES)), (2,)),
    "no bias": ((Dense(2, 4, has_bias=False), Tanh(), Dense(4, CLASSES)), (2,)),
    "convolution": ((Conv2D((2, 2, 1, 2)), Flatten(), Dense(8, CLASSES)), (2, 2, 1)),
    "embedding": ((Embedding(5, 2), Tanh(), Dense(2, CLASSES)), None),
}
GRADIENTS = ("param_gradients", "output_gradients")


def problem(name="dense", **batch):
    rng = np.random.default_rng(0)
    layers, shape = MODELS[name]
    model = SequentialModel(Sequential(layers))
    x = rng.integers(5, size=(CASES, 2))
    if shape is not None:
        x = rng.normal(size=(CASES, *shape))
    params = model.init(rng, like=np.ones(1))
    given = {"targets": rng.integers(CLASSES, size=CASES), **batch}
    return model, model.layer_collection(SOFTMAX), params, Batch(x, **given)


@dataclass(frozen=True)
class Changed:
    """A model with something else in the place of parts of its linearization."""

    model: SequentialModel
    change: Any

    def linearize(self, params, batch):
        right = self.model.linearize(params, batch)
        names = (
            "batch_size",
            "layer_inputs",
            "loss_inputs",
            "targets",
            "masks",
            *GRADIENTS,
            "push_forward",
        )
        parts = {name: getattr(right, name) for name in names}
        return SimpleNamespace(**parts | self.change(right))


@pytest.mark.parametrize("name", MODELS)
def test_a_right_model_passes(name):
    assert len(check_linearization(*problem(name))) == 7
    model, collection, params, batch = problem(name)
    bare = Batch(batch.inputs, None, np.asarray([1.0, 0.0, 2.0, 1.0]))
    assert check_linearization(model, collection, params, bare)


def of_the_mean(linearization):
    """Both gradients of a loss that is divided by the number of cases."""

    def divided(method):
        def gradients(vectors, names=None):
            found = getattr(linearization, method)(vectors)
            return {key: x / CASES for key, x in found.items()}

        return gradients

    return {method: divided(method) for method in GRADIENTS}


def rows_of_the_mean(linearization):
    return {"output_gradients": of_the_mean(linearization)["output_gradients"]}


def consistently_of_the_mean(linearization):
    def pushed(tangents):
        found = linearization.push_forward(tangents)
        return {site: x / CASES for site, x in found.items()}

    return of_the_mean(linearization) | {"push_forward": pushed}


def mixed(linearization):
    """Rows in another order than the cases."""

    def gradients(vectors):
        found = linearization.output_gradients(vectors)
        return {site: g[::-1] for site, g in found.items()}

    return {"output_gradients": gradients}


def added(linearization):
    """Gradients that are added to those of the call before."""
    kept = []

    def gradients(vectors, names=None):
        kept.append(linearization.param_gradients(vectors))
        return {name: sum(each[name] for each in kept) for name in kept[0]}

    return {"param_gradients": gradients}


def of_other_targets(linearization):
    return {"targets": {"outputs": np.zeros((CASES, 1), np.int64)}}


def at_unknown_sites(linearization):
    return {"masks": {"nowhere": np.ones(CASES)}}


WRONG = {
    "mean loss": (of_the_mean, "param_gradients is divided by the number of cases"),
    "rows of the mean": (
        rows_of_the_mean,
        r"'dense_0' do not give the gradient of 'dense_0/\w+': they are of the mean",
    ),
    "all of the mean": (
        consistently_of_the_mean,
        "push_forward at 'outputs' differs from a difference quotient",
    ),
    "order of rows": (mixed, "the first case alone reaches rows of other cases"),
    "gradients added": (added, "an earlier call, or one of a fixed loss, is added"),
    "site": (at_unknown_sites, r"masks has the sites \['nowhere'\], which are not"),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("name", ["dense", "no bias"])
def test_a_wrong_one_is_told_what_to_do(name, fault):
    change, told = WRONG[fault]
    model, *rest = problem(name)
    with pytest.raises(AssertionError, match=told):
        check_linearization(Changed(model, change), *rest)


def test_a_graph_that_is_kept_is_told(needed):
    torch = needed("torch")
    model, collection, params, batch = problem()

    def tracked(x):
        return torch.tensor(x, requires_grad=x.dtype == np.float64) * 1

    moved = {name: torch.tensor(x) for name, x in params.items()}
    right = Batch(torch.tensor(batch.inputs), torch.tensor(batch.targets))
    assert check_linearization(model, collection, moved, right)

    def graphs(linearization):
        inputs = linearization.layer_inputs
        return {"layer_inputs": {k: tracked(x.numpy()) for k, x in inputs.items()}}

    with pytest.raises(AssertionError, match=r"layer_inputs keeps alive .* detach"):
        check_linearization(Changed(model, graphs), collection, moved, right)


def test_targets_of_another_shape_are_told_by_the_loss():
    model, *rest = problem()
    with pytest.raises(ShapeError, match=r"targets has shape \(4, 1\), expected \[4\]"):
        check_linearization(Changed(model, of_other_targets), *rest)


def test_one_case_tells_nothing():
    model, collection, params, batch = problem()
    one = Batch(batch.inputs[:1], batch.targets[:1])
    with pytest.raises(ArgumentError, match="one case, which cannot tell a sum"):
        check_linearization(model, collection, params, one)
