"""Clocks, products and refusals of the estimator."""

import dataclasses
import math

import numpy as np
import pytest
from estimator_cases import (
    CASES,
    CATEGORICAL,
    HEADS,
    assert_differs,
    assert_named_close,
    assert_states_close,
    draw,
    draw_like_params,
    leaves,
    statistics,
)

import kfac_core as kc
from kfac_core.estimator import BlockDiagonalMatrix, FisherEstimator, rolling
from kfac_core.reference import Batch, Conv2D, Flatten, Sequential, SequentialModel

MODEL = CASES["convolutional"].model
COLLECTION = MODEL.layer_collection(CATEGORICAL)
SERVED = {"matpowers": (-1.0, -0.5), "compute_cholesky": True}
EXACT = FisherEstimator(
    COLLECTION, estimation_mode="exact", compute_cholesky_inverse=True, **SERVED
)


def batches(rng, count):
    drawn = draw(CASES["convolutional"], rng)
    inputs = rng.standard_normal((count, 5, 6, 6, 1))
    return drawn.params, [MODEL.linearize(drawn.params, Batch(x)) for x in inputs]


def same(x, y):
    pairs = zip(leaves(x), leaves(y), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_clocks_of_statistics_and_inverses_are_apart(rng):
    params, (first, second) = batches(rng, 2)
    v = draw_like_params(MODEL, rng)
    old = EXACT.update_inverses(statistics(EXACT, params, first), 0.1)
    new = EXACT.update_covs(old, second, 0.9)
    assert same(EXACT.multiply_inverse(old, v), EXACT.multiply_inverse(new, v))
    for name in MODEL.sites:
        before, after = old.blocks[name], new.blocks[name]
        for side in ("input_factor", "output_factor"):
            assert same(getattr(before, side).derived, getattr(after, side).derived)
            assert not same(getattr(before, side).cov, getattr(after, side).cov)
    latest = EXACT.update_inverses(new, 0.1)
    assert not same(EXACT.multiply_inverse(latest, v), EXACT.multiply_inverse(new, v))
    for name, state in latest.blocks.items():
        assert same(state.input_factor.cov, new.blocks[name].input_factor.cov)
    assert int(latest.cases) == 10


def test_only_the_chosen_layers_are_updated(rng):
    params, (first, second) = batches(rng, 2)
    full = EXACT.update_inverses(statistics(EXACT, params, first), 0.1)
    covs = EXACT.update_covs(full, second, 0.9, layers=["conv2d_1"])
    everywhere = EXACT.update_covs(full, second, 0.9)
    inverses = EXACT.update_inverses(full, 0.3, layers=("conv2d_1",))
    for name, old in full.blocks.items():
        chosen = name == "conv2d_1"
        assert same(covs.blocks[name], old) != chosen
        assert same(inverses.blocks[name], old) != chosen
        assert same(covs.blocks[name], everywhere.blocks[name]) == chosen
    assert same(EXACT.update_covs(full, second, 0.9, layers=()).blocks, full.blocks)


def test_layers_take_their_turns(rng):
    params, (first,) = batches(rng, 1)
    estimator = FisherEstimator(COLLECTION, estimation_mode="exact")
    state, counts = estimator.init(params), []
    names = [*estimator.blocks]
    for step in range(5):
        chosen = rolling(step, names, 2)
        state = estimator.update_covs(state, first, 1.0, layers=chosen)
        weights = (state.blocks[name].input_factor.cov.weight for name in names)
        counts.append("".join(str(int(weight)) for weight in weights))
    assert counts == ["110", "211", "222", "332", "433"]


@pytest.mark.parametrize(("count", "per_step"), [(3, 2), (5, 1), (4, 4), (7, 3)])
def test_in_a_round_each_layer_has_as_many_turns(count, per_step):
    names = [*range(count)]
    turns = [rolling(step, names, per_step) for step in range(count)]
    assert {len(turn) for turn in turns} == {per_step}
    flat = [name for turn in turns for name in turn]
    assert all(flat.count(name) == per_step for name in names)
    # As the original: j has its turn if (b - 1 + step b - j) mod n < b.
    for step, turn in enumerate(turns):
        wanted = [
            j for j in names if (per_step * (step + 1) - 1 - j) % count < per_step
        ]
        assert list(turn) == wanted


def computed(rng):
    params, (first,) = batches(rng, 1)
    state = EXACT.update_inverses(statistics(EXACT, params, first), 0.2)
    v = draw_like_params(MODEL, rng)
    return state, {name: v[name] for name in reversed(v)}


def test_products_are_those_of_the_blocks_in_the_order_of_the_vector(rng):
    state, v = computed(rng)
    block, own = EXACT.blocks["conv2d_0"], state.blocks["conv2d_0"]
    names = MODEL.names[0]
    vector = tuple(v[name] for name in names)
    for found, expected in [
        (EXACT.multiply(state, v), block.multiply(own, vector)),
        (EXACT.multiply_inverse(state, v), block.multiply_inverse(own, vector)),
        (
            EXACT.multiply_matpower(state, v, -0.5),
            block.multiply_matpower(own, vector, -0.5),
        ),
    ]:
        assert list(found) == list(v)
        assert same(tuple(found[name] for name in names), expected)


def test_powers_and_cholesky_factors_make_up_the_matrix(rng):
    state, v = computed(rng)
    whole = EXACT.multiply(state, v)
    assert_named_close(EXACT.multiply_inverse(state, whole), v, 1e-10)
    root = EXACT.multiply_matpower(state, v, -0.5)
    twice = EXACT.multiply_matpower(state, root, -0.5)
    assert_named_close(twice, EXACT.multiply_inverse(state, v), 1e-10)
    lower = EXACT.multiply_cholesky(state, v, transpose=True)
    assert_named_close(EXACT.multiply_cholesky(state, lower), whole, 1e-10)
    turned = EXACT.multiply_cholesky(state, EXACT.multiply_cholesky(state, v))
    name = "dense_2/weights"
    assert_differs(turned[name], whole[name])
    solved = EXACT.multiply_cholesky_inverse(
        state, EXACT.multiply_cholesky_inverse(state, v), transpose=True
    )
    assert_named_close(solved, EXACT.multiply_inverse(state, v), 1e-10)


def test_what_is_not_served_is_refused(rng):
    params, (first,) = batches(rng, 1)
    plain = FisherEstimator(COLLECTION, estimation_mode="exact")
    state = plain.update_inverses(statistics(plain, params, first), 0.2)
    with pytest.raises(kc.errors.NotRegisteredError, match="conv2d_0"):
        plain.multiply_matpower(state, params, -0.5)
    with pytest.raises(kc.errors.NotRegisteredError, match="conv2d_0"):
        plain.multiply_cholesky(state, params)


def test_before_statistics_and_inverses_there_is_a_clear_error(rng):
    params, (first,) = batches(rng, 1)
    with pytest.raises(kc.errors.NotComputedError, match="update_covs"):
        EXACT.update_inverses(EXACT.init(params), 0.1)
    with pytest.raises(kc.errors.NotComputedError, match="call update_inverses first"):
        EXACT.multiply_inverse(statistics(EXACT, params, first), params)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p: {**p, "x": 1}, kc.errors.ArgumentError, r"{} has the names .*'x'\]"),
        (
            lambda p: {name: p[name] for name in [*p][1:]},
            kc.errors.ArgumentError,
            "expected .*conv2d_0/weights",
        ),
        (
            lambda p: {**p, "dense_2/bias": np.zeros(4)},
            kc.errors.ShapeError,
            r"dense_2/bias: {} has shape \(4,\), expected \[3\]",
        ),
    ],
    ids=["unknown", "missing", "shape"],
)
def test_wrong_parameters_and_vectors_are_named(rng, change, error, message):
    state, v = computed(rng)
    with pytest.raises(error, match=message.format("params")):
        EXACT.init(change(v))
    for multiply in (EXACT.multiply_inverse, EXACT.multiply_cholesky):
        with pytest.raises(error, match=message.format("vectors")):
            multiply(state, change(v))


def test_an_unknown_layer_is_named(rng):
    params, (first,) = batches(rng, 1)
    message = r"no layers named \['dense_9'\], expected some of \['conv2d_0'"
    with pytest.raises(kc.errors.ArgumentError, match=message):
        statistics(EXACT, params, first, layers=["dense_9"])
    with pytest.raises(kc.errors.ArgumentError, match=message):
        EXACT.update_inverses(EXACT.init(params), 0.1, layers=["dense_9"])


def test_a_parameter_without_a_layer_is_named():
    fewer = dataclasses.replace(COLLECTION, layers=COLLECTION.layers[:-1])
    with pytest.raises(
        kc.errors.RegistrationError,
        match="no layer covers the parameter 'dense_2/bias'",
    ):
        FisherEstimator(fewer)
    with pytest.raises(kc.errors.RegistrationError, match="no loss is registered"):
        BlockDiagonalMatrix(dataclasses.replace(COLLECTION, losses=()))


def test_random_numbers_come_from_a_key_or_as_noise(rng):
    drawn = draw(CASES["dense"], rng)
    model = CASES["dense"].model
    linearization = model.linearize(drawn.params, drawn.batch)
    estimator = FisherEstimator(model.layer_collection(CATEGORICAL))
    noise = {"outputs": rng.uniform(size=(1, 5))}

    def update(**options):
        return statistics(estimator, drawn.params, linearization, **options)

    for options in ({}, {"key": rng, "noise": noise}):
        with pytest.raises(kc.errors.ArgumentError, match="either a key or noise"):
            update(**options)
    with pytest.raises(
        kc.errors.ArgumentError, match="nothing for the loss site 'outputs'"
    ):
        update(noise={})
    with pytest.raises(
        kc.errors.ShapeError,
        match=r"outputs: noise has shape \(1, 4\), expected \[1, 5\]",
    ):
        update(noise={"outputs": np.zeros((1, 4))})
    given = update(noise=noise)
    assert_states_close(given, update(noise=noise))
    ok = statistics(
        FisherEstimator(model.layer_collection(CATEGORICAL), estimation_mode="exact"),
        drawn.params,
        linearization,
    )
    assert bool(ok.ok)


SAMPLED = SequentialModel(Sequential((Conv2D((2, 2, 1, 2)), Flatten())))


def test_blocks_that_sample_get_keys_of_their_own(rng):
    params = draw_like_params(SAMPLED, rng)
    linearization = SAMPLED.linearize(params, Batch(rng.standard_normal((10, 3, 3, 1))))
    plain = SAMPLED.layer_collection(CATEGORICAL)
    sampled = SAMPLED.layer_collection(CATEGORICAL, sub_sample_inputs=True)
    noise = {"outputs": rng.uniform(size=(1, 10))}

    def covs(collection, mode, **options):
        estimator = FisherEstimator(collection, estimation_mode=mode)
        state = statistics(estimator, params, linearization, **options)
        return tuple(
            factor.get_cov(own)
            for name, block in estimator.blocks.items()
            for factor, own in block.factors(state.blocks[name]).values()
        )

    def key(seed):
        return np.random.default_rng(seed)

    for mode, options in [("exact", {}), ("gradients", {"noise": noise})]:
        truth = covs(plain, mode, **options)
        found = covs(sampled, mode, key=key(1), **options)
        assert same(found, covs(sampled, mode, key=key(1), **options))
        assert not same(found[0], covs(sampled, mode, key=key(2), **options)[0])
        assert_differs(found[0], truth[0])
        assert same(found[1], truth[1])
        with pytest.raises(kc.errors.ArgumentError, match=r"conv2d_0.*key"):
            covs(sampled, mode, **options)


def test_no_two_draw_from_one_key(rng, monkeypatch):
    layers = tuple(
        dataclasses.replace(
            layer, block=dataclasses.replace(layer.block, sub_sample_inputs=True)
        )
        if layer.name.startswith("conv")
        else layer
        for layer in COLLECTION.layers
    )
    estimator = FisherEstimator(dataclasses.replace(COLLECTION, layers=layers))
    update, keys = kc.blocks.ConvKFCBasicFB.update_covs, []

    def updated(*arguments, key, **options):
        keys.append(key)
        return update(*arguments, key=rng, **options)

    def drawn(collection, linearization, mode, count, key, noise):
        keys.append(key)
        return {"outputs": np.zeros((1, 5))}

    def split(self, key, count):
        return tuple(f"{key}/{i}" for i in range(count))

    monkeypatch.setattr(kc.blocks.ConvKFCBasicFB, "update_covs", updated)
    monkeypatch.setattr("kfac_core.estimator.fisher_estimator.noise_for", drawn)
    monkeypatch.setattr(type(kc.backend_of(np.ones(1))), "split", split)
    params, (first,) = batches(np.random.default_rng(1), 1)
    statistics(estimator, params, first, key="key")
    assert keys == ["key/0", "key/1", "key/2"]


def test_what_is_known_before_there_are_data(rng):
    params, _ = batches(rng, 1)
    assert EXACT.variables == tuple(params)
    assert list(EXACT.blocks) == list(MODEL.sites)
    assert all(block.matpowers == (-1.0, -0.5) for block in EXACT.blocks.values())
    state = EXACT.init(params)
    assert (int(state.cases), bool(state.ok)) == (0, True)
    assert hash(EXACT) == hash(dataclasses.replace(EXACT))
    assert FisherEstimator(HEADS.layer_collection(CATEGORICAL)).mat_type == "Fisher"
    empirical = dataclasses.replace(EXACT, estimation_mode="empirical")
    assert empirical.mat_type == "Empirical_Fisher"


@pytest.mark.parametrize("damping", [-1.0, math.nan])
def test_a_wrong_damping_changes_nothing(rng, damping):
    params, (first,) = batches(rng, 1)
    state = statistics(EXACT, params, first)
    before = [np.array(leaf) for leaf in leaves(state)]
    with pytest.raises(kc.errors.ArgumentError, match="damping is"):
        EXACT.update_inverses(state, damping)
    assert same(tuple(before), tuple(leaves(state)))
