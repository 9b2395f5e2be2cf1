"""Layers whose parameters are parts of one: as if each had its own."""

from types import SimpleNamespace

import numpy as np
import pytest
from optimizer_cases import CATEGORICAL

import kfac_core as kc
from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

MODEL = SequentialModel(Sequential((Dense(3, 3), Tanh(), Dense(3, 3))))
LAYERS = ("dense_0", "dense_1")


def whole(xp, params):
    """Weights as a stack, and biases one after the other."""
    weights = [params[f"{name}/weights"] for name in LAYERS]
    biases = [params[f"{name}/bias"] for name in LAYERS]
    return {"weights": xp.stack(weights), "biases": xp.concat(biases)}


def apart(params):
    found = {}
    for i, name in enumerate(LAYERS):
        found[f"{name}/weights"] = params["weights"][i, :, :]
        found[f"{name}/bias"] = params["biases"][3 * i : 3 * i + 3]
    return found


class Whole:
    """The model of whole parameters."""

    def __init__(self, xp):
        self.xp = xp

    def linearize(self, params, batch):
        given = MODEL.linearize(apart(params), batch)

        def gradients(vectors, names=None):
            assert names is None or set(names) <= {"weights", "biases"}
            return whole(self.xp, given.param_gradients(vectors))

        def pushed(tangents):
            return given.push_forward(apart(tangents))

        return SimpleNamespace(
            batch_size=given.batch_size,
            layer_inputs=given.layer_inputs,
            loss_inputs=given.loss_inputs,
            targets=given.targets,
            masks=given.masks,
            output_gradients=given.output_gradients,
            param_gradients=gradients,
            push_forward=pushed,
        )


def cut():
    collection = kc.LayerCollection.of({"weights": (2, 3, 3), "biases": (6,)})
    return collection.define_parts("weights").define_parts("biases", (3, 3))


def collections():
    """The collection of whole parameters, and that of separate ones."""
    one, other = (
        cut(),
        kc.LayerCollection.of(MODEL.layer_collection(CATEGORICAL).shapes),
    )
    for i, name in enumerate(LAYERS):
        own = f"weights[{i}]", f"biases[{3 * i}:{3 * i + 3}]"
        separate = f"{name}/weights", f"{name}/bias"
        one = one.register_fully_connected(own, name)
        other = other.register_fully_connected(separate, name)
    return [x.register_loss_function(CATEGORICAL, "outputs") for x in (one, other)]


@pytest.mark.parametrize("dampings", [(0.5, 0.5), (0.3, 0.05)], ids=["one", "each"])
def test_steps_are_those_of_separate_parameters(library, dampings):
    rng = np.random.default_rng(0)
    separate = MODEL.init(rng, like=np.zeros(1))
    separate = {name: library.asarray(x) for name, x in separate.items()}
    x, y = rng.normal(size=(12, 3)), rng.integers(3, size=12).astype(np.int32)
    batch = Batch(library.asarray(x), library.asarray(y))

    def steps(model, collection, params):
        names = (layer.name for layer in collection.layers)
        optimizer = kc.KfacOptimizer(
            model,
            collection,
            damping=dict(zip(names, dampings, strict=True)),
            momentum_type="qmodel",
            estimation_mode="exact",
            invert_every=1,
        )
        state = optimizer.init(params)
        for _ in range(2):
            state, params, _ = optimizer.step(state, params, batch)
        return params

    one, other = collections()
    expected = steps(MODEL, other, separate)
    xp = kc.registry.backend_of(batch.inputs).xp
    found = apart(steps(Whole(xp), one, whole(xp, separate)))
    for name, value in expected.items():
        moved = library.to_numpy(value)
        np.testing.assert_allclose(library.to_numpy(found[name]), moved, rtol=1e-10)
        assert np.abs(moved - library.to_numpy(separate[name])).max() > 1e-3


def updated(library, collection, gradient):
    """An estimator, and its statistics of one gradient of a parameter."""
    xp = kc.registry.backend_of(gradient).xp
    collection = collection.register_loss_function(CATEGORICAL, "outputs")
    estimator = kc.FisherEstimator(collection, "gradients")
    given = SimpleNamespace(
        batch_size=1,
        layer_inputs={},
        loss_inputs={"outputs": xp.zeros_like(gradient[:1, :])},
        targets={},
        masks={},
        param_gradients=lambda vectors, names: dict.fromkeys(names, gradient),
        output_gradients=lambda vectors: {},
    )
    noise = {"outputs": library.asarray(np.zeros((1, 1)))}
    state = estimator.init({"w": gradient})
    return estimator, estimator.update_covs(state, given, 0.0, noise=noise)


def test_blocks_of_summed_gradients_take_those_of_their_parts(library):
    gradient = np.arange(8.0).reshape(4, 2)
    collection = kc.LayerCollection.of({"w": (4, 2)}).define_parts("w", (1, 3))
    for name in ("w[0:1]", "w[1:4]"):
        collection = collection.register_generic(name, approx="full")
    estimator, state = updated(library, collection, library.asarray(gradient))
    for name, rows in (("w[0:1]", gradient[:1]), ("w[1:4]", gradient[1:])):
        block = estimator.blocks[name].full_fisher_block(state.blocks[name])
        np.testing.assert_allclose(library.to_numpy(block), np.outer(rows, rows))


def test_parts_along_another_axis_are_joined_along_it(library):
    collection = kc.LayerCollection.of({"w": (2, 6)})
    collection = collection.define_parts("w", (2, 4), axis=1)
    assert collection.shapes == {"w[:, 0:2]": (2, 2), "w[:, 2:6]": (2, 4)}
    for name in collection.shapes:
        collection = collection.register_generic(name)
    gradient = np.arange(12.0).reshape(2, 6)
    estimator, state = updated(library, collection, library.asarray(gradient))
    state = estimator.update_inverses(state, 0.5)
    v = library.asarray(np.ones((2, 6)))
    product = estimator.multiply_inverse(state, {"w": v})["w"]
    np.testing.assert_allclose(library.to_numpy(product), 1 / (gradient**2 + 0.5))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda x: x.define_parts("biases", (2, 3)), ArgumentError, "sizes is"),
        (lambda x: x.define_parts("biases", (6, 0)), ArgumentError, "sizes is"),
        (lambda x: x.define_parts("biases", "33"), ArgumentError, "sizes is"),
        (lambda x: x.define_parts("biases", (6,), axis=1), ArgumentError, "axis is"),
        (lambda x: x.define_parts("none", (6,)), ArgumentError, "'none'"),
        (
            lambda x: x.define_parts("biases", (3, 3)).define_parts("biases", (6,)),
            ArgumentError,
            "'biases'",
        ),
        (
            lambda x: x.define_parts("biases", (3, 3)).define_parts("biases[0:3]"),
            ArgumentError,
            "expected one of",
        ),
        (
            lambda x: x.register_generic("biases").define_parts("biases", (6,)),
            RegistrationError,
            "registered already",
        ),
        (
            lambda x: x.define_linked_parameters("biases").define_parts("biases"),
            RegistrationError,
            "linked",
        ),
        (
            lambda x: x.define_parts("biases").register_generic("biases"),
            ArgumentError,
            "'biases'",
        ),
    ],
)
def test_parts_that_cannot_be_are_refused(change, kind, message):
    collection = kc.LayerCollection.of({"biases": (6,), "weights": (3, 3)})
    with pytest.raises(kind, match=message):
        change(collection)


def test_uncovered_part_is_named():
    collection = cut().register_loss_function(CATEGORICAL, "outputs")
    with pytest.raises(RegistrationError, match=r"covers the parameter 'weights\[1\]'"):
        collection.check_registration({"weights": (2, 3, 3), "biases": (6,)})
