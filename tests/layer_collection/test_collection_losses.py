"""Losses of a collection: names, towers, coefficients."""

import numpy as np
import pytest
from collection_cases import empty

import kfac_core as kc

LOGITS = kc.losses.CategoricalLogitsNegativeLogProbLoss()
EVENTS = kc.losses.MultiBernoulliNegativeLogProbLoss()
LOSSES = {
    "categorical_predictive_distribution": LOGITS,
    "softmax_cross_entropy_loss": LOGITS,
    "onehot_categorical_predictive_distribution": (
        kc.losses.OnehotCategoricalLogitsNegativeLogProbLoss()
    ),
    "multi_bernoulli_predictive_distribution": EVENTS,
    "sigmoid_cross_entropy_loss": EVENTS,
    "normal_predictive_distribution": kc.losses.NormalMeanNegativeLogProbLoss(0.5),
    "squared_error_loss": kc.losses.NormalMeanNegativeLogProbLoss(0.5),
    "normal_mean_variance_predictive_distribution": (
        kc.losses.NormalMeanVarianceNegativeLogProbLoss()
    ),
}


@pytest.mark.parametrize("function", LOSSES)
def test_every_loss(function):
    loss = LOSSES[function]

    def register(collection, site, **kwargs):
        return getattr(collection, f"register_{function}")(site, **kwargs)

    first = register(empty(), "out", name="mine", coeff=0.25)
    expected = kc.layer_collection.LossRegistration("mine", loss, 0.25, ("out",))
    assert first.losses == (expected,)
    second = register(first, "out2", name="mine", coeff=0.25, reuse=True)
    assert second.losses[0].towers == ("out", "out2")
    assert first.losses == (expected,)
    assert register(empty(), "out").losses[0].coeff == 1
    assert hash(second) == hash(
        register(first, "out2", name="mine", coeff=0.25, reuse="auto")
    )


def test_variance():
    collection = empty().register_normal_predictive_distribution("out", var=2.0)
    assert collection.losses[0].loss == kc.losses.NormalMeanNegativeLogProbLoss(2.0)


def test_names():
    collection = empty()
    for site in "abc":
        collection = collection.register_loss_function(LOGITS, site, reuse="auto")
    base = "CategoricalLogitsNegativeLogProbLoss"
    names = [loss.name for loss in collection.losses]
    assert names == [base, f"{base}_1", f"{base}_2"]
    # Unlike in the original, "auto" takes a new name.
    named = empty().register_loss_function(LOGITS, "a", "mine", reuse="auto")
    assert [loss.name for loss in named.losses] == ["mine"]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, kc.errors.RegistrationError, "mine: a loss has this name already"),
        (
            {"name": "new", "reuse": True},
            kc.errors.RegistrationError,
            "new.*no loss has",
        ),
        ({"name": None, "reuse": True}, kc.errors.ArgumentError, "no name"),
        ({"reuse": True, "coeff": 3.0}, kc.errors.RegistrationError, "2.0, not .* 3.0"),
        (
            {"reuse": "auto", "coeff": 3.0},
            kc.errors.RegistrationError,
            "2.0, not .* 3.0",
        ),
        (
            {"reuse": True, "loss": kc.losses.MultiBernoulliNegativeLogProbLoss()},
            kc.errors.RegistrationError,
            "not MultiBernoulli",
        ),
        (
            {"reuse": True, "site": "out"},
            kc.errors.RegistrationError,
            "'out'.*loss mine",
        ),
        (
            {"name": "new", "site": "out"},
            kc.errors.RegistrationError,
            "'out'.*loss mine",
        ),
        ({"name": "new", "reuse": 1.5}, kc.errors.ArgumentError, "reuse is 1.5"),
        ({"name": "new", "coeff": -1.0}, kc.errors.ArgumentError, "new: coeff is -1.0"),
        ({"name": "new", "coeff": np.inf}, kc.errors.ArgumentError, "finite"),
        ({"name": "new", "coeff": np.nan}, kc.errors.ArgumentError, "finite"),
        ({"name": "new", "coeff": "1"}, kc.errors.ArgumentError, "coeff is '1'"),
        ({"name": "new", "site": ("a", "b")}, kc.errors.ArgumentError, "site is"),
        ({"name": "new", "loss": "softmax"}, kc.errors.ArgumentError, "a str"),
    ],
)
def test_refused(kwargs, error, message):
    collection = empty().register_loss_function(LOGITS, "out", "mine", coeff=2.0)
    before = repr(collection)
    given = {"loss": LOGITS, "site": "out2", "name": "mine", "coeff": 2.0} | kwargs
    with pytest.raises(error, match=message):
        collection.register_loss_function(**given)
    assert repr(collection) == before
