"""Models and linearizations that give what they are told to."""

from types import SimpleNamespace

import numpy as np

import kfac_core as kc
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel

ATTRIBUTES = ("batch_size", "layer_inputs", "loss_inputs", "targets", "masks")
METHODS = (
    "output_gradients",
    "param_gradients",
    "push_forward",
    "param_gradients_change",
)

WORDS = {
    # Of how many cases they are, is said of all data of a layer.
    "layer_inputs": ("inputs", "the data of"),
    "output_gradients": ("outputs_grads", "the data of"),
    "push_forward": ("vector holds NaN",),
    "loss_inputs": ("the/loss",),
    "targets": ("target",),
}
"""What errors call the parts of a linearization."""

MODEL = SequentialModel(Sequential((Dense(3, 2),)))
LAYER, LOSS = "dense_0", "the/loss"
SITE = "outputs"  # of the loss


def collection():
    made = MODEL.layer_collection(NormalMeanNegativeLogProbLoss())
    return kc.LayerCollection(made.variables, made.layers).register_loss_function(
        made.losses[0].loss, SITE, name=LOSS
    )


def problem(rng, asarray=np.array):
    """Return parameters, a batch, and the linearization there, a plain object."""
    batch = Batch(rng.normal(size=(4, 3)), rng.normal(size=(4, 2)))
    params = MODEL.init(rng, like=batch.inputs)
    params = {name: asarray(tensor) for name, tensor in params.items()}
    return params, Batch(*(x if x is None else asarray(x) for x in batch))


def pieces_of(linearization, params):
    """Return all that a linearization gives, its methods for vectors of ones."""
    x = linearization.loss_inputs[SITE]
    vectors = {SITE: x * 0 + 1}
    return {
        **{name: getattr(linearization, name) for name in ATTRIBUTES},
        "masks": {SITE: x[:, 0] * 0 + 1},
        "output_gradients": linearization.output_gradients(vectors),
        "param_gradients": linearization.param_gradients(vectors),
        "push_forward": linearization.push_forward(params),
        "param_gradients_change": linearization.param_gradients_change(vectors, params),
    }


def giving(pieces):
    """Return a linearization that gives these, its methods whatever they are asked."""
    methods = {name: (lambda *_, name=name: pieces[name]) for name in METHODS}
    return SimpleNamespace(**{**pieces, **methods})


class Giving:
    """A model that gives one linearization, whatever it is asked."""

    def __init__(self, linearization):
        self.linearize = lambda *_: linearization
