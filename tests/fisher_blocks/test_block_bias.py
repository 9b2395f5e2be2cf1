"""A bias that stands alone has the Fisher of its summed gradients, exactly."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.reference import (
    Bias,
    Dense,
    Sequential,
    Tanh,
    block_for,
    diagonal_block_for,
    exact_fisher,
    exact_sources,
)

LOSS = kc.losses.CategoricalLogitsNegativeLogProbLoss()
every_block = pytest.mark.parametrize(
    "make", [kc.blocks.BiasFullFB, kc.blocks.BiasDiagonalFB]
)


def assert_close(found, expected, rtol=1e-12):
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def fitted(block, *sources):
    state = block.init(like=np.zeros(1))
    towers = tuple(g if isinstance(g, tuple) else (g,) for g in sources)
    return block.update_covs(state, towers, ema_decay=0.0)


@pytest.mark.parametrize("place", ["first", "inside", "last"])
def test_it_is_the_fisher_wherever_the_bias_stands(place, rng):
    layers = [Dense(3, 4, has_bias=False), Tanh(), Dense(4, 3, has_bias=False)]
    at, size = {"first": (0, 3), "inside": (1, 4), "last": (3, 3)}[place]
    network = Sequential((*layers[:at], Bias((size,)), *layers[at:]))
    index = [isinstance(layer, Bias) for layer in network.param_layers].index(True)
    params = network.vector_to_params(rng.normal(size=network.num_params))
    x = rng.normal(size=(6, 3))
    _, sources = exact_sources(network, params, x, LOSS)[index]
    truth = exact_fisher(network, params, x, LOSS, layer=index)
    layer = network.param_layers[index]
    for make, expected in (
        (block_for, truth),
        (diagonal_block_for, np.diag(np.diagonal(truth))),
    ):
        block = make(layer)
        assert_close(block.full_fisher_block(fitted(block, *sources)), expected)


@every_block
@pytest.mark.parametrize(
    ("shape", "outputs", "axes"),
    [
        ((), (), ()),
        ((), (2, 3), (1, 2)),
        ((3,), (3,), ()),
        ((3,), (5, 2, 3), (1, 2)),
        ((2, 1, 1), (2, 3, 4), (2, 3)),
        ((5, 3), (5, 3), ()),
        ((1, 5, 3), (5, 3), ()),
        ((1, 1), (4, 3), (1, 2)),
        ((1, 3), (3,), ()),
    ],
)
def test_the_gradient_is_summed_over_the_axes_of_broadcasting(
    make, shape, outputs, axes, rng
):
    g = rng.normal(size=(7, *outputs))
    rows = g.sum(axes).reshape(7, -1)
    block = make(shape)
    found = block.full_fisher_block(fitted(block, g))
    expected = rows.T @ rows / 7
    if make is kc.blocks.BiasDiagonalFB:
        expected = np.diag(np.diagonal(expected))
    assert_close(found, expected)
    state = block.update_inverses(fitted(block, g), 0.5)
    vector = rng.normal(size=shape)
    product = block.multiply_inverse(state, vector)
    assert product.shape == shape
    size = expected.shape[0]
    wanted = np.linalg.solve(expected + 0.5 * np.eye(size), np.ravel(vector))
    assert_close(np.ravel(product), wanted, 1e-11)


def test_positions_are_summed_and_not_averaged_apart(rng):
    # The negative twin: the second moment of the rows of all positions is another.
    g = rng.normal(size=(7, 4, 2))
    block = kc.blocks.BiasFullFB((2,))
    found = block.full_fisher_block(fitted(block, g))
    rows = g.reshape(-1, 2)
    apart = 4 * rows.T @ rows / len(rows)
    assert np.abs(found - apart).max() > 0.05 * np.abs(found).max()
    last = kc.blocks.FullyConnectedKFACBasicFB(1, 2)
    state = last.update_covs(last.init(g), np.ones((7, 1)), g.sum(1), 0.0)
    assert_close(found, last.full_fisher_block(state))


@every_block
def test_uses_of_a_case_are_summed_and_may_differ_in_shape(make, plain_library, rng):
    first, second = rng.normal(size=(5, 2)), rng.normal(size=(5, 3, 2))
    block = make((2,))
    a, b = map(plain_library.asarray, (first, second))
    state = block.update_covs(block.init(a), kc.Uses((a, b)), 0.0)
    expected = fitted(block, first + second.sum(1))
    found = plain_library.to_numpy(block.full_fisher_block(state))
    assert_close(found, block.full_fisher_block(expected))
    with pytest.raises(kc.errors.ShapeError, match="same cases"):
        block.update_covs(block.init(a), kc.Uses((a, b[:4, ...])), 0.0)


def test_towers_are_shards_and_sources_are_summed(rng):
    g, h = rng.normal(size=(2, 6, 3))
    block = kc.blocks.BiasFullFB((3,))
    whole = block.full_fisher_block(fitted(block, g, h))
    assert_close(whole, g.T @ g / 6 + h.T @ h / 6)
    shards = fitted(block, (g[:2], g[2:]), (h[:2], h[2:]))
    assert_close(block.full_fisher_block(shards), whole)


@every_block
@pytest.mark.parametrize("shape", [(0,), (2.5,), ("3",), (-1,), 3, None, (None,)])
def test_shapes_are_checked_where_they_are_given(make, shape):
    with pytest.raises(kc.errors.ArgumentError, match=r"layer7.*shape"):
        make(shape, name="layer7")


@every_block
@pytest.mark.parametrize("size", [(5, 4), (5, 2, 4), (5,)])
def test_outputs_that_do_not_fit_are_refused(make, size, rng):
    block = make((3,), name="layer7")
    with pytest.raises(
        kc.errors.ShapeError, match=r"layer7: outputs_grads has shape .*\(3,\)"
    ):
        fitted(block, rng.normal(size=size))


def test_the_estimator_asks_for_no_inputs_of_it(rng):
    class Offset:
        """Logits that are a bias alone."""

        loss_inputs: dict
        layer_inputs: dict = {}  # noqa: RUF012
        masks: dict = {}  # noqa: RUF012
        targets: dict = {}  # noqa: RUF012
        batch_size = 6

        def __init__(self, logits):
            self.loss_inputs = {"logits": logits}

        def output_gradients(self, vectors):
            return {"here": vectors["logits"]}

    params = {"b": rng.normal(size=3)}
    collection = kc.LayerCollection.of(params).register_bias("b", "here")
    collection = collection.register_softmax_cross_entropy_loss("logits")
    estimator = kc.FisherEstimator(collection, estimation_mode="exact")
    state = estimator.update_covs(
        estimator.init(params),
        Offset(np.zeros((6, 3)) + params["b"]),
        ema_decay=0.0,
    )
    p = np.exp(params["b"]) / np.exp(params["b"]).sum()
    found = estimator.blocks["b"].full_fisher_block(state.blocks["b"])
    assert_close(found, np.diag(p) - np.outer(p, p))
