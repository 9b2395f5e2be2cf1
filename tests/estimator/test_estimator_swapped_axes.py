"""Where cases and uses lie in the wrong order, the number of cases tells."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from estimator_cases import assert_close

import kfac_core as kc
from kfac_core.estimator import FisherEstimator
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss

SQUARE = NormalMeanNegativeLogProbLoss()  # its Fisher is 2
N, T = 4, 3


@dataclass(frozen=True)
class Shared:
    """``y = w sum_t x_t`` for inputs ``[cases, uses, 1]``, as they lie, or swapped."""

    inputs: Any
    uses_first: bool
    targets: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)

    @property
    def xp(self):
        return kc.backend_of(self.inputs).xp

    @property
    def batch_size(self):
        return self.inputs.shape[0]

    def laid(self, x):
        return self.xp.permute_dims(x, (1, 0, 2)) if self.uses_first else x

    @property
    def layer_inputs(self):
        return {"a": self.laid(self.inputs)}

    @property
    def loss_inputs(self):
        return {"outputs": self.xp.sum(self.inputs, axis=1)}

    def output_gradients(self, vectors):
        g = vectors["outputs"][:, None, :]
        return {"a": self.laid(self.xp.broadcast_to(g, self.inputs.shape))}


AROUND = {
    "expand": lambda block: block,
    "ekfac": kc.blocks.EigenvalueCorrectedFB,
    "reduce": kc.blocks.KFACReduceFB,
    "foof": kc.blocks.ForwardOnlyFB,
}


def updated(linearization, around="expand", **options):
    block = AROUND[around](kc.blocks.FullyConnectedMultiIndepFB(1, 1, **options))
    layers = kc.LayerCollection.of({"w": (1, 1)})
    layers = layers.register_block("w", block, site="a")
    layers = layers.register_loss_function(SQUARE, "outputs")
    estimator = FisherEstimator(layers, estimation_mode="exact")
    state = estimator.init({"w": linearization.inputs[0, :1, :]})
    return estimator, estimator.update_covs(state, linearization, 0.0)


def shared(uses_first, cases=N, uses=T, asarray=np.asarray):
    return Shared(asarray(np.ones((cases, uses, 1))), uses_first)


@pytest.mark.parametrize("uses_first", [False, True], ids=["cases", "uses"])
def test_the_right_order_is_served(plain_library, uses_first):
    library = plain_library
    made = shared(uses_first, asarray=library.asarray)
    estimator, state = updated(made, batch_first=not uses_first)
    found = estimator.blocks["w"].full_fisher_block(state.blocks["w"])
    assert_close(library.to_numpy(found), [[2.0 * T]])


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("uses_first", [False, True], ids=["cases", "uses"])
@pytest.mark.parametrize(("cases", "uses"), [(4, 3), (3, 4), (4, 1)])
def test_the_wrong_order_is_refused_by_its_name(around, uses_first, cases, uses):
    with pytest.raises(kc.errors.ShapeError) as caught:
        updated(shared(uses_first, cases, uses), around, batch_first=uses_first)
    for words in (
        "w: the data of 'a' have the shapes",
        f"batch_first={uses_first} reads as",
        f"batch_size is {cases}",
        f"give batch_first={not uses_first}",
    ):
        assert words in str(caught.value)


def test_it_is_refused_within_a_trace(jax):
    def run(x):
        return updated(Shared(x, False), batch_first=False)[1]

    with pytest.raises(kc.errors.ShapeError, match="give batch_first=True"):
        jax.jit(run)(jax.numpy.ones((N, T, 1)))


def test_as_many_uses_as_cases_are_not_told_apart_and_the_scale_is_right():
    found = []
    for batch_first in (True, False):
        estimator, state = updated(shared(False, 3, 3), batch_first=batch_first)
        found.append(estimator.blocks["w"].full_fisher_block(state.blocks["w"]))
    assert_close(*found)


def test_a_number_of_uses_that_is_said_settles_it():
    # Three of four cases reach a layer of four uses: [4, 3, 1], uses first.
    x = np.ones((4, 3, 1))

    @dataclass(frozen=True)
    class Reached(Shared):
        @property
        def layer_inputs(self):
            return {"a": x}

        def output_gradients(self, vectors):
            return {"a": x}

    made = Reached(np.ones((4, 4, 1)), uses_first=True)
    with pytest.raises(kc.errors.ShapeError, match="num_uses=4 if only 3 cases"):
        updated(made)
    estimator, state = updated(made, num_uses=4)
    found = estimator.blocks["w"].full_fisher_block(state.blocks["w"])
    assert_close(found, [[4.0 * 3 / 4]])
