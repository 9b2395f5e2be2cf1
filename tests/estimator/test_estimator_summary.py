"""The summary of an estimator, and the factors that blocks list."""

import dataclasses
import math

import numpy as np
import pytest
from estimator_cases import (
    CASES,
    CATEGORICAL,
    NORMAL,
    draw,
    draw_like_params,
    leaves,
    moved,
    statistics,
)

import kfac_core as kc
from kfac_core.estimator import FisherEstimator, summary
from kfac_core.reference import Batch

MODEL = CASES["convolutional"].model
GENERIC = ("dense_2/weights", "dense_2/bias")


def collection():
    """Return a collection with Kronecker, single-factor and diagonal factors."""
    kron = MODEL.layer_collection(CATEGORICAL)
    kron = dataclasses.replace(kron, layers=kron.layers[:-1])
    return kron.register_generic(GENERIC, approx="diagonal", name="last")


ESTIMATOR = FisherEstimator(collection(), estimation_mode="gradients")


def computed(rng, estimator=ESTIMATOR):
    params = draw_like_params(MODEL, rng)
    batch = Batch(rng.standard_normal((5, 6, 6, 1)))
    noise = {"outputs": rng.uniform(size=(1, 5))}
    state = statistics(estimator, params, MODEL.linearize(params, batch), noise=noise)
    return estimator.update_inverses(state, 0.25)


def test_the_numbers_are_those_of_the_dense_factors(rng):
    state = computed(rng)
    found = summary(ESTIMATOR, state)
    traces = {}
    for name, block in ESTIMATOR.blocks.items():
        own = state.blocks[name]
        for side, (factor, part) in block.factors(own).items():
            dense = factor.get_cov(part)
            values = np.linalg.eigvalsh(dense)
            at = f"{name}/{side}"
            assert found[f"{at}/dimension"] == len(dense)
            assert found[f"{at}/trace"] == pytest.approx(np.trace(dense), rel=1e-12)
            assert found[f"{at}/max_eigenvalue"] == pytest.approx(values[-1], rel=1e-12)
            least = found[f"{at}/min_eigenvalue"]
            assert least == pytest.approx(max(values[0], 0), abs=1e-12)
            assert least >= 0
            traces[at] = np.trace(dense) / len(dense)
        assert float(found[f"{name}/damping"]) == 0.25
        assert float(found[f"{name}/weight"]) == 1
        assert found[f"{name}/bytes"] == sum(leaf.nbytes for leaf in leaves(own))
    for name in ("conv2d_0", "conv2d_1"):
        pi = traces[f"{name}/input_factor"] / traces[f"{name}/output_factor"]
        assert found[f"{name}/pi"] == pytest.approx(math.sqrt(pi), rel=1e-12)
    assert [float(found[f"{x}/uses"]) for x in ESTIMATOR.blocks] == [36, 2, 1]
    assert "last/pi" not in found
    assert int(found["cases"]) == 5
    assert found["bytes"] == sum(np.asarray(leaf).nbytes for leaf in leaves(state))


def test_the_factors_of_each_kind_of_block():
    like = np.zeros(1)
    for block, names in [
        (kc.blocks.FullyConnectedKFACBasicFB(2, 2), ["input_factor", "output_factor"]),
        (kc.blocks.EmbeddingKFACFB(3, 2), ["input_factor", "output_factor"]),
        (kc.blocks.NaiveFullFB(3), ["factor"]),
        (kc.blocks.FullyConnectedDiagonalFB(2, 2), ["factor"]),
    ]:
        state = block.init(like)
        factors = block.factors(state)
        assert list(factors) == names
        for name, (factor, own) in factors.items():
            assert factor is getattr(block, name)
            assert own is getattr(state, name)


def test_groups_count_as_one_matrix(rng):
    params = {"w": np.zeros((1, 1, 2, 4))}
    layers = kc.LayerCollection.of(params).register_grouped_convolution(
        "w", "conv", num_groups=2, strides=1, padding="VALID", name="conv"
    )
    estimator = FisherEstimator(layers.register_loss_function(NORMAL, "outputs"))
    state = estimator.init(params)
    block = estimator.blocks["conv"]
    x, g = (rng.standard_normal((5, 1, 1, 4)) for _ in range(2))
    own = block.update_covs(state.blocks["conv"], x, g, 0.0)
    found = summary(estimator, state._replace(blocks={"conv": own}))
    rows = np.reshape(x, (5, 2, 2))
    covs = [rows[:, i].T @ rows[:, i] / 5 for i in range(2)]
    values = np.concatenate([np.linalg.eigvalsh(cov) for cov in covs])
    at = "conv/input_factor"
    assert found[f"{at}/dimension"] == 4
    assert found[f"{at}/trace"] == pytest.approx(values.sum())
    assert found[f"{at}/min_eigenvalue"] == pytest.approx(values.min())
    assert found[f"{at}/max_eigenvalue"] == pytest.approx(values.max())
    assert "conv/pi" not in found
    assert all(getattr(value, "ndim", 0) == 0 for value in found.values())


def test_without_statistics_there_is_a_clear_error(rng):
    state = ESTIMATOR.init(draw_like_params(MODEL, rng))
    with pytest.raises(kc.errors.NotComputedError, match=r"conv2d_0.*update_covs"):
        summary(ESTIMATOR, state)


def test_every_library_has_numbers_of_its_own(library, rng):
    case = CASES["embedding"]  # a diagonal factor and dense ones
    estimator = FisherEstimator(
        case.model.layer_collection(NORMAL), estimation_mode="exact"
    )
    drawn = draw(case, rng)
    state = statistics(estimator, drawn.params, case.model.linearize(*drawn))
    state = estimator.update_inverses(state, 0.25)
    expected = summary(estimator, state)
    found = summary(estimator, moved(library, state))
    like = library.asarray(np.zeros(1))
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, int):
            assert name.endswith(("dimension", "bytes"))
            assert found[name] == value
        else:
            assert tuple(found[name].shape) == ()
            assert name == "cases" or found[name].dtype == like.dtype
            number = float(library.to_numpy(found[name]))
            assert number == pytest.approx(float(value), rel=1e-12, abs=1e-12)


def test_it_is_traced(jax, rng):
    state = computed(rng)
    traced = jax.jit(summary, static_argnums=0)
    found = traced(ESTIMATOR, jax.tree.map(jax.numpy.asarray, state))
    for name, value in summary(ESTIMATOR, state).items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-12, abs=1e-12)
    empty = ESTIMATOR.init(draw_like_params(MODEL, rng))
    empty = jax.tree.map(jax.numpy.asarray, empty)
    assert float(traced(ESTIMATOR, empty)["last/factor/trace"]) == 0
