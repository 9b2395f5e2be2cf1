"""Rows against cases: uses of a layer are no towers, a wrong `batch_size` is seen."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from estimator_cases import assert_close

import kfac_core as kc
from kfac_core.estimator import FisherEstimator
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
from kfac_core.typing import Uses

SQUARE = NormalMeanNegativeLogProbLoss()  # its Fisher is 2
CASES = 4


@dataclass(frozen=True)
class Twice:
    """``y = w (x_a + x_b)``: one weight, used twice by each of four cases.

    The inputs ``x_a`` are 1, the ``x_b`` given: 1 and -1 in turns.
    """

    turns: Any  # [4, 1]
    batch_size: Any = CASES
    targets: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)

    @property
    def layer_inputs(self):
        return {"a": self.turns**2, "b": self.turns}

    @property
    def loss_inputs(self):
        return {"outputs": self.turns**2 + self.turns}

    def output_gradients(self, vectors):
        return {"a": vectors["outputs"], "b": vectors["outputs"]}

    def param_gradients(self, vectors, names=None):
        xp = kc.backend_of(self.turns).xp
        inputs = self.turns**2 + self.turns
        total = xp.sum(inputs * vectors["outputs"], axis=0, keepdims=True)
        return {"w": total}


TURNS = np.asarray([[1.0], [-1.0], [1.0], [-1.0]])


def params_of(linearization):
    return {"w": linearization.turns[:1, :]}


def collection_of(register, sizes=(1, 1)):
    layers = register(kc.LayerCollection.of({"w": sizes}))
    return layers.register_loss_function(SQUARE, "outputs")


def as_uses(layers):
    return layers.register_fully_connected_multi("w", ("a", "b"))


def as_shards(layers):
    first = layers.register_fully_connected("w", "a")
    return first.register_fully_connected("w", "b", reuse=True)


def updated(collection, linearization, **options):
    estimator = FisherEstimator(collection, estimation_mode="exact")
    state = estimator.init(params_of(linearization))
    return estimator, estimator.update_covs(state, linearization, 0.0, **options)


def block_of(estimator, state):
    return estimator.blocks["w"].full_fisher_block(state.blocks["w"])


def test_a_layer_used_twice_has_the_block_of_its_gradient(library):
    # The derivative of y by w is 2 and 0 in turns, and the loss's Fisher is 2.
    linearization = Twice(library.asarray(TURNS))
    found = updated(collection_of(as_uses), linearization)
    assert_close(library.to_numpy(block_of(*found)), [[4.0]])


def test_uses_registered_as_shards_are_refused_and_both_ways_out_named(library):
    linearization = Twice(library.asarray(TURNS))
    with pytest.raises(kc.errors.ShapeError) as caught:
        updated(collection_of(as_shards), linearization)
    for words in (
        "w: the 2 towers of the sites 'a', 'b' hold 8 cases",
        "batch_size is 4",
        "register all its uses as one tower",
        "register_fully_connected_multi",
        "batch_size is wrong",
    ):
        assert words in str(caught.value)


def test_they_are_refused_within_a_trace(jax):
    def run(turns):
        return updated(collection_of(as_shards), Twice(turns))[1]

    with pytest.raises(kc.errors.ShapeError, match="'a', 'b' hold 8 cases"):
        jax.jit(run)(jax.numpy.asarray(TURNS))


def test_the_error_that_recommends_reuse_says_for_what():
    layers = kc.LayerCollection.of({"w": (1, 1)}).register_fully_connected("w", "a")
    with pytest.raises(kc.errors.RegistrationError) as caught:
        layers.register_fully_connected("w", "b")
    for words in ("shard", "reuse=True", "more use by the same cases", "_multi", "'a'"):
        assert words in str(caught.value)


def test_shards_of_the_batch_are_served():
    # Two shards of two cases each: the rows are those of the batch.
    halves = Twice(TURNS[:2], batch_size=4)
    found = updated(collection_of(as_shards), halves)
    assert_close(block_of(*found), [[2.0]])


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (3, kc.errors.ShapeError, "4 is no multiple"),
        (
            2,
            kc.errors.ShapeError,
            "hold 4 cases, but the linearization's batch_size is 2",
        ),
        (
            8,
            kc.errors.ArgumentError,
            "batch_size is 8, but no layer .* more than 4 cases",
        ),
        (0, kc.errors.ArgumentError, "batch_size is 0, expected a positive integer"),
        (-4, kc.errors.ArgumentError, "batch_size is -4"),
        (4.0, kc.errors.ArgumentError, r"batch_size is 4\.0"),
        (True, kc.errors.ArgumentError, "batch_size is True"),
        (None, kc.errors.ArgumentError, "batch_size is None"),
        ("4", kc.errors.ArgumentError, "batch_size is '4'"),
    ],
)
def test_a_wrong_batch_size_is_seen(size, error, words):
    with pytest.raises(error, match=words):
        updated(collection_of(as_uses), Twice(TURNS, batch_size=size))


def test_a_batch_size_of_numpy_is_served():
    linearization = Twice(TURNS, batch_size=np.int64(CASES))
    assert_close(block_of(*updated(collection_of(as_uses), linearization)), [[4.0]])


@dataclass(frozen=True)
class TwiceModel:
    def linearize(self, params, batch):
        return Twice(batch, targets={"outputs": 0 * batch})


def test_the_optimizer_refuses_before_anything_changes(rng, plain_library):
    library = plain_library
    optimizer = kc.KfacOptimizer(
        TwiceModel(),
        collection_of(as_shards),
        learning_rate=0.1,
        damping=0.1,
        estimation_mode="exact",
    )
    params = {"w": library.asarray(np.ones((1, 1)))}
    state = optimizer.init(params)
    with pytest.raises(kc.errors.ShapeError, match="'a', 'b' hold 8 cases"):
        optimizer.step(state, params, library.asarray(TURNS))
    assert int(state.counter) == 0
    assert float(params["w"][0, 0]) == 1


@pytest.mark.parametrize("form", ["uses", "stacked", "flat"])
def test_a_shared_layer_counts_each_case_once(form, library):
    ones = library.asarray(np.ones((CASES, 1)))
    data = {
        "uses": Uses((ones,) * 3),
        "stacked": library.asarray(np.ones((3, CASES, 1))),
        "flat": library.asarray(np.ones((3 * CASES, 1))),
    }[form]
    block = kc.blocks.FullyConnectedMultiIndepFB(1, 1, num_uses=3)
    assert block.count_cases(data) == CASES
    assert block.count_cases((data, data)) == 2 * CASES
