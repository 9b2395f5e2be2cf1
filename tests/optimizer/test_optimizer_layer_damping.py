"""One damping for each layer: blocks, quadratic model and adaptation know of it."""

import numpy as np
import pytest
from optimizer_cases import CATEGORICAL, DEEP, flat, optimizer_of, problem, run

from kfac_core.errors import ArgumentError
from kfac_core.reference import exact_fisher

DAMPINGS = {"dense_0": 0.3, "dense_1": 0.05}
KINDS = {"regular": {}, "adam": {}, "qmodel": {}, "qmodel_fixedmu": {"momentum": 0.4}}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_dampings_are_one_damping(kind, plain_library):
    params, batch = problem(plain_library)
    options = {"momentum_type": kind, "adapt_damping": True, **KINDS[kind]}
    one = optimizer_of(damping=0.3, **options)
    both = optimizer_of(damping=dict.fromkeys(DAMPINGS, 0.3), **options)
    runs = [run(optimizer, params, batch, 6) for optimizer in (one, both)]
    moved = [flat(plain_library, r[1]) for r in runs]
    np.testing.assert_allclose(moved[1], moved[0], rtol=1e-10)
    wanted = float(plain_library.to_numpy(runs[0][0].damping))
    assert wanted != 0.3
    for name in DAMPINGS:
        got = float(plain_library.to_numpy(runs[1][0].damping[name]))
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_each_block_has_its_own(library):
    params, batch = problem(library)
    optimizer = optimizer_of(damping=DAMPINGS, momentum_type="regular")
    state, _, told = optimizer.step(optimizer.init(params), params, batch)
    for name, damping in DAMPINGS.items():
        block = state.estimator.blocks[name]
        np.testing.assert_allclose(library.to_numpy(block.damping), damping)
        np.testing.assert_allclose(library.to_numpy(told.damping[name]), damping)
        alone = optimizer_of(damping=damping, momentum_type="regular")
        other, _, _ = alone.step(alone.init(params), params, batch)
        for key in (f"{name}/weights", f"{name}/bias"):
            np.testing.assert_allclose(
                library.to_numpy(state.velocity[key]),
                library.to_numpy(other.velocity[key]),
                rtol=1e-12,
            )


def test_the_model_is_penalised_layer_by_layer(library):
    """Its gradient vanishes along both directions, by the dense Fisher."""
    params, batch = problem(library)
    optimizer = optimizer_of(damping=DAMPINGS, momentum_type="qmodel")
    state, params, _ = run(optimizer, params, batch, 2)
    before, theta = flat(library, state.velocity), flat(library, params)
    truth = exact_fisher(DEEP.network, DEEP.unnamed(params), batch.inputs, CATEGORICAL)
    names = sorted(params)
    sizes = {name: int(np.prod(params[name].shape)) for name in params}
    ends = np.cumsum(list(sizes.values()))
    pieces = dict(zip(params, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    order = np.concatenate([pieces[name] for name in names])
    fisher = library.to_numpy(truth)[np.ix_(order, order)]
    penalties = np.concatenate(
        [np.full(sizes[name], DAMPINGS[name.partition("/")[0]]) for name in names]
    )
    linearization = DEEP.linearize(params, batch)
    summed = CATEGORICAL.gradient(linearization.loss_inputs["outputs"], batch.targets)
    g = flat(library, linearization.param_gradients({"outputs": summed})) / 12
    _, params, told = optimizer.step(state, params, batch)
    d = flat(library, params) - theta
    alpha = -float(library.to_numpy(told.learning_rate))
    mu = float(library.to_numpy(told.momentum))
    rest = g + fisher @ d + penalties * d
    for direction in ((d + mu * before) / alpha, before):
        size = np.linalg.norm(direction) * np.linalg.norm(g)
        assert abs(direction @ rest) < 1e-11 * size
        # Not so for one penalty of all.
        wrong = g + fisher @ d + 0.3 * d
        assert abs(direction @ wrong) > 1e-5 * size


@pytest.mark.parametrize("kind", ["regular", "qmodel"])
def test_the_penalty_is_predicted_if_asked(kind, plain_library):
    library = plain_library
    params, batch = problem(library)
    found = []
    for included in (False, True):
        optimizer = optimizer_of(
            damping=DAMPINGS,
            momentum_type=kind,
            adapt_damping=True,
            damping_adaptation_interval=1,
            include_damping_in_qmodel_change=included,
        )
        _, moved, (told,) = run(optimizer, params, batch, 1)
        found.append(float(library.to_numpy(told.predicted_change)))
    penalty = sum(
        DAMPINGS[name.partition("/")[0]]
        * np.sum(library.to_numpy(moved[name] - params[name]) ** 2)
        for name in params
    )
    np.testing.assert_allclose(found[1] - found[0], penalty / 2, rtol=1e-9)


def test_bounds_hold_for_each(plain_library):
    params, batch = problem(plain_library)
    optimizer = optimizer_of(
        damping=DAMPINGS,
        adapt_damping=True,
        damping_adaptation_interval=1,
        damping_adaptation_decay=0.5,
        damping_decrease_rho_threshold=-10.0,
        damping_increase_rho_threshold=-11.0,
        min_damping=0.04,
    )
    state, _, _ = run(optimizer, params, batch, 1)
    got = {k: float(plain_library.to_numpy(v)) for k, v in state.damping.items()}
    assert got == {"dense_0": 0.15, "dense_1": 0.04}


def test_a_step_may_be_given_all_or_one(plain_library):
    params, batch = problem(plain_library)
    optimizer = optimizer_of(damping=DAMPINGS)
    state = optimizer.init(params)
    for given, wanted in (
        (0.7, {"dense_0": 0.7, "dense_1": 0.7}),
        ({"dense_1": 0.2, "dense_0": 0.1}, {"dense_0": 0.1, "dense_1": 0.2}),
    ):
        new, _, _ = optimizer.step(state, params, batch, damping=given)
        got = {k: float(plain_library.to_numpy(v)) for k, v in new.damping.items()}
        assert got == wanted


def test_names_are_checked(plain_library):
    params, batch = problem(plain_library)
    for wrong in ({"dense_0": 0.1}, {**DAMPINGS, "dense_2": 0.1}):
        with pytest.raises(ArgumentError, match="expected every layer of"):
            optimizer_of(damping=wrong)
    with pytest.raises(ArgumentError, match=r"damping\['dense_1'\] is -1"):
        optimizer_of(damping={**DAMPINGS, "dense_1": -1.0})
    optimizer = optimizer_of(damping=DAMPINGS)
    state = optimizer.init(params)
    with pytest.raises(ArgumentError, match="expected every layer of"):
        optimizer.step(state, params, batch, damping={"dense_0": 0.1})
    single = optimizer_of(damping=0.1)
    with pytest.raises(ArgumentError, match="that of the state is one number"):
        single.step(single.init(params), params, batch, damping=DAMPINGS)
    estimator = optimizer.estimator
    with pytest.raises(ArgumentError, match=r"no damping for the layers \['dense_1'\]"):
        estimator.update_inverses(state.estimator, {"dense_0": 0.1})
    with pytest.raises(ArgumentError, match=r"no layers named \['other'\]"):
        estimator.update_inverses(state.estimator, {"other": 0.1}, layers=["dense_0"])


def test_options_by_layer_are_hashable_and_equal():
    first = optimizer_of(damping=DAMPINGS)
    other = optimizer_of(damping=dict(reversed(DAMPINGS.items())))
    assert first == other
    assert hash(first) == hash(other)


def test_one_trace_whatever_the_dampings(jax):
    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    optimizer = optimizer_of(damping=DAMPINGS, num_burnin_steps=1)
    params, batch = problem(InJAX)
    traces = []

    @jax.jit
    def step(state, params, damping):
        traces.append(1)
        return optimizer.step(state, params, batch, damping=damping)

    state = optimizer.init(params)
    for scale in (1.0, 2.0, 0.5):
        given = {name: value * scale for name, value in DAMPINGS.items()}
        state, params, told = step(state, params, given)
        assert bool(told.ok)
    assert len(traces) == 1
    kept, _, told = step(state, params, {**DAMPINGS, "dense_1": -1.0})
    assert not bool(told.ok)
    assert float(kept.damping["dense_1"]) == float(state.damping["dense_1"])
