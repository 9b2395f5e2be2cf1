"""Models, losses and comparisons that the tests of the estimator share."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import kfac_core as kc
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    MultiBernoulliNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
    NormalMeanVarianceNegativeLogProbLoss,
)
from kfac_core.reference import (
    Batch,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    MeanPool2D,
    ReLU,
    Sequential,
    SequentialModel,
    Tanh,
)

CATEGORICAL = CategoricalLogitsNegativeLogProbLoss()
BERNOULLI = MultiBernoulliNegativeLogProbLoss()
NORMAL = NormalMeanNegativeLogProbLoss(var=0.7)
MEAN_VARIANCE = NormalMeanVarianceNegativeLogProbLoss()


class Case(NamedTuple):
    layers: tuple[Any, ...]
    shape: tuple[int, ...]  # of one case's input
    vocabulary: int | None = None  # the inputs are ids, if it is a number

    @property
    def model(self):
        return SequentialModel(Sequential(self.layers))


CASES = {
    "dense": Case((Dense(4, 5), Tanh(), Dense(5, 3)), (4,)),
    "convolutional": Case(
        (
            Conv2D((3, 3, 1, 2)),
            Tanh(),
            MeanPool2D((2, 2)),
            Conv2D((2, 2, 2, 3), strides=(2, 1), padding="VALID", has_bias=False),
            ReLU(),
            Flatten(),
            Dense(6, 3),
        ),
        (6, 6, 1),
    ),
    "embedding": Case(
        (Embedding(5, 3), Tanh(), Dense(3, 3, has_bias=False)), (4,), vocabulary=5
    ),
}


class Drawn(NamedTuple):
    params: dict[str, Any]
    batch: Batch


def draw(case, rng, batch=5):
    """Draw parameters, biases included, and inputs."""
    model = case.model
    if case.vocabulary is None:
        x = rng.standard_normal((batch, *case.shape))
    else:
        x = rng.integers(case.vocabulary, size=(batch, *case.shape))
    return Drawn(draw_like_params(model, rng), Batch(x))


def draw_like_params(model, rng):
    network = model.network
    flat = 0.7 * rng.standard_normal(network.num_params)
    return model.named(network.vector_to_params(flat))


def moved(library, data):
    """Return nested tuples and dictionaries of arrays in another library."""
    if data is None:
        return None
    if isinstance(data, dict):
        return {name: moved(library, part) for name, part in data.items()}
    if isinstance(data, tuple):
        parts = [moved(library, part) for part in data]
        return type(data)(*parts) if hasattr(data, "_fields") else tuple(parts)
    return library.asarray(np.asarray(data))


def leaves(state):
    if isinstance(state, dict):
        state = tuple(state.values())
    if isinstance(state, tuple):
        return [leaf for part in state for leaf in leaves(part)]
    return [state]


def flat(named, names):
    """Return a vector by name as one vector."""
    return np.concatenate([np.ravel(named[name]) for name in names])


def inner(x, y):
    """Return the inner product of what two vectors have at the same places."""
    if isinstance(x, dict):
        return sum(inner(x[name], y[name]) for name in x)
    if isinstance(x, tuple):
        return sum(inner(a, b) for a, b in zip(x, y, strict=True))
    return float(np.sum(np.asarray(x) * np.asarray(y)))


def assert_close(actual, expected, tolerance=1e-12):
    """Compare in norm: entries may cancel, the whole does not."""
    actual, expected = (np.asarray(x, dtype=float) for x in (actual, expected))
    assert actual.shape == expected.shape
    scale = max(np.linalg.norm(expected), np.finfo(np.float64).tiny)
    assert np.linalg.norm(actual - expected) / scale <= tolerance


def assert_states_close(actual, expected, tolerance=1e-12):
    for x, y in zip(leaves(actual), leaves(expected), strict=True):
        assert_close(x, y, tolerance)


def assert_named_close(actual, expected, tolerance=1e-12):
    assert list(actual) == list(expected)
    for name, part in expected.items():
        assert_close(actual[name], part, tolerance)


def assert_differs(actual, expected, by=1e-3):
    actual, expected = (np.asarray(x, dtype=float) for x in (actual, expected))
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual - expected) > by * np.linalg.norm(expected)


@dataclass(frozen=True)
class Heads:
    """A network of nine outputs, with three heads: labels, events and values.

    Three logits, two logits of events, two means and the logarithms of two variances.
    """

    base: Any
    targets: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]

    @property
    def batch_size(self):
        return self.base.batch_size

    @property
    def layer_inputs(self):
        return self.base.layer_inputs

    @property
    def variance(self):
        outputs = self.base.loss_inputs["outputs"]
        return np.exp(outputs[:, 7:])

    @property
    def loss_inputs(self):
        outputs = self.base.loss_inputs["outputs"]
        return {
            "labels": outputs[:, :3],
            "events": outputs[:, 3:5],
            "values": (outputs[:, 5:7], self.variance),
        }

    def _pulled(self, vectors, variance):
        zeros = np.zeros((self.batch_size, 2))
        mean, var = vectors.get("values", (zeros, zeros))
        labels = vectors.get("labels", np.zeros((self.batch_size, 3)))
        parts = [labels, vectors.get("events", zeros), mean, var * variance]
        return {"outputs": np.concatenate(parts, axis=1)}

    def output_gradients(self, vectors):
        return self.base.output_gradients(self._pulled(vectors, self.variance))

    def param_gradients(self, vectors, names=None):
        pulled = self._pulled(vectors, self.variance)
        return self.base.param_gradients(pulled, names)

    def push_forward(self, tangents):
        change = self.base.push_forward(tangents)["outputs"]
        return {
            "labels": change[:, :3],
            "events": change[:, 3:5],
            "values": (change[:, 5:7], self.variance * change[:, 7:]),
        }

    def param_gradients_change(self, vectors, tangents):
        pulled = self._pulled(vectors, self.variance)
        of_model = self.base.param_gradients_change(pulled, tangents)
        of_variance = self.push_forward(tangents)["values"][1]
        zeros = {name: 0 * x for name, x in vectors.items() if name != "values"}
        if "values" in vectors:
            mean, var = vectors["values"]
            zeros["values"] = (0 * mean, var)
        of_head = self.base.param_gradients(self._pulled(zeros, of_variance))
        return {name: of_model[name] + of_head[name] for name in of_model}


HEADS = SequentialModel(Sequential((Dense(3, 2), Tanh(), Dense(2, 9))))
HEAD_LOSSES = {
    "labels": (CATEGORICAL, 1.0),
    "events": (BERNOULLI, 2.5),
    "values": (MEAN_VARIANCE, 0.3),
}


def heads(rng, batch=4, *, masked=True, model=HEADS):
    """Draw parameters and data, and return them with the linearization."""
    params = draw_like_params(model, rng)
    x = rng.standard_normal((batch, 3))
    targets = {
        "labels": rng.integers(3, size=batch),
        "events": rng.integers(2, size=(batch, 2)),
        "values": rng.standard_normal((batch, 2)),
    }
    masks = {"labels": rng.uniform(size=batch), "values": rng.integers(2, size=batch)}
    masks = masks if masked else {}
    return params, Heads(model.linearize(params, Batch(x)), targets, masks)


def heads_collection(*sites, model=HEADS):
    """Return the layers, and the losses of some heads."""
    collection = model.layer_collection(CATEGORICAL)
    collection = kc.LayerCollection(collection.variables, collection.layers)
    for site in sites:
        loss, coeff = HEAD_LOSSES[site]
        collection = collection.register_loss_function(loss, site, coeff=coeff)
    return collection


def softmax(logits):
    weights = np.exp(logits)
    return weights / weights.sum(-1, keepdims=True)


def heads_fisher(linearization, sites):
    """Return each case's Fisher for the network's outputs, ``[batch, 9, 9]``."""
    outputs = linearization.base.loss_inputs["outputs"]
    fisher = np.zeros((len(outputs), 9, 9))
    for n, row in enumerate(outputs):
        weight = {
            site: HEAD_LOSSES[site][1]
            * (linearization.masks[site][n] if site in linearization.masks else 1)
            for site in sites
        }
        if "labels" in sites:
            p = softmax(row[:3])
            fisher[n, :3, :3] = weight["labels"] * (np.diag(p) - np.outer(p, p))
        if "events" in sites:
            p = 1 / (1 + np.exp(-row[3:5]))
            fisher[n, 3:5, 3:5] = weight["events"] * np.diag(p * (1 - p))
        if "values" in sites:
            # d var / d log var = var, and the Fisher for var is 1 / (2 var^2).
            diagonal = np.concatenate([np.exp(-row[7:]), [0.5, 0.5]])
            fisher[n, 5:, 5:] = weight["values"] * np.diag(diagonal)
    return fisher


def statistics(estimator, params, linearization, **options):
    """Return the state after one batch."""
    state = estimator.init(params)
    return estimator.update_covs(state, linearization, 0.0, **options)


def output_factors(estimator, state):
    """Return the estimate of each layer's output factor, by the layer's name."""
    return {
        name: block.output_factor.get_cov(state.blocks[name].output_factor)
        for name, block in estimator.blocks.items()
    }
