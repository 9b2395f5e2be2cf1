"""Arguments of a step are checked also where this step, or these options, need none."""

import numpy as np
import pytest
from optimizer_cases import DEEP, SHALLOW, optimizer_of, problem

import kfac_core as kc
from kfac_core.optimizer.options import MOMENTUM_TYPES

SMALL = (0.0, 1e-320, 0.999e-8)


def started(library, **options):
    """Return an optimizer, a state whose inverses are not due, parameters, a batch."""
    params, batch = problem(library, model=SHALLOW)
    optimizer = optimizer_of(SHALLOW, invert_every=5, **options)
    state, params, _ = optimizer.step(optimizer.init(params), params, batch)
    return optimizer, state, params, batch


def test_a_damping_below_the_smallest_is_refused(plain_library):
    # One start serves all of them: JAX compiles each of its operations.
    optimizer, *given = started(plain_library)
    free = optimizer_of(SHALLOW, invert_every=5, min_damping=0.0)
    for damping in SMALL:
        for value in (damping, plain_library.asarray(np.asarray(damping))):
            with pytest.raises(
                kc.errors.ArgumentError, match=r"damping is .*min_damping, 1e-08"
            ):
                optimizer.step(*given, damping=value)
        assert free.step(*given, damping=damping)[0].counter == 2
    state, *_ = optimizer.step(*given, damping=1e-8)
    assert float(state.damping) == 1e-8


def test_a_damping_of_one_layer_is_named():
    layers = {"dense_0": 0.5, "dense_1": 0.5}
    optimizer = optimizer_of(damping=layers)
    params, batch = problem(_NumPy, model=DEEP)
    state = optimizer.init(params)
    with pytest.raises(kc.errors.ArgumentError, match=r"damping\['dense_1'\] is 0.0"):
        optimizer.step(state, params, batch, damping=layers | {"dense_1": 0.0})


def test_a_traced_damping_below_the_smallest_changes_nothing(jax):
    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)

    optimizer, state, *given = started(InJAX)
    step = jax.jit(lambda s, p, b, d: optimizer.step(s, p, b, damping=d))
    for damping in (*SMALL, -1.0, np.nan):
        kept, _, told = step(state, *given, np.asarray(damping))
        assert not told.ok, damping
        for x, y in zip(*map(jax.tree.leaves, (kept, state)), strict=True):
            np.testing.assert_array_equal(x, y)
    assert step(state, *given, np.asarray(1e-8))[2].ok


@pytest.mark.parametrize("other", MOMENTUM_TYPES)
@pytest.mark.parametrize("own", MOMENTUM_TYPES)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_state_is_that_of_one_momentum_type(own, other, is_new):
    params, batch = problem(_NumPy, model=SHALLOW)
    made, reading = (optimizer_of(SHALLOW, momentum_type=k) for k in (own, other))
    state = made.init(params)
    if not is_new:
        state, *_ = made.step(state, params, batch)
    if own == other:
        assert reading.step(state, params, batch)[2].ok
        return
    with pytest.raises(
        kc.errors.StateError, match=f"state is one of .*{own}.*{other}.*init"
    ):
        reading.step(state, params, batch)


def test_a_state_is_that_of_one_momentum_type_under_a_trace(jax):
    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)

    params, batch = problem(InJAX, model=SHALLOW)
    made, reading = (
        optimizer_of(SHALLOW, momentum_type=k) for k in ("regular", "adam")
    )
    state = made.init(params)
    with pytest.raises(kc.errors.StateError, match="state is one of"):
        jax.jit(reading.step)(state, params, batch)
    # What an optimizer of equal options made is of the same structure.
    again = optimizer_of(SHALLOW).init(params)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert jax.jit(made.step)(again, params, batch)[2].ok


def test_the_batch_before_is_one_where_it_is_of_no_use(plain_library):
    optimizer, *given, batch = started(plain_library)
    for bad in (3, "batch", [], {}, object(), batch.inputs):
        with pytest.raises(kc.errors.ArgumentError, match=r"prev_batch is a .*Batch"):
            optimizer.step(*given, batch, prev_batch=bad)
    assert optimizer.step(*given, batch, prev_batch=batch)[2].ok
    adapting = optimizer_of(
        SHALLOW, adapt_damping=True, update_damping_immediately=False
    )
    state = adapting.init(given[1])
    with pytest.raises(kc.errors.ArgumentError, match="prev_batch is a int"):
        adapting.step(state, given[1], batch, prev_batch=3)


@pytest.mark.parametrize("gradient", [3, {}, "nan"])
def test_a_gradient_is_checked_in_a_burn_in(plain_library, gradient):
    optimizer = optimizer_of(SHALLOW, num_burnin_steps=3)
    params, batch = problem(plain_library, model=SHALLOW)
    state = optimizer.init(params)
    assert optimizer.step(state, params, batch, gradient=params)[2].ok
    if gradient == "nan":
        gradient = {name: part * float("nan") for name, part in params.items()}
    with pytest.raises(kc.KfacError, match="gradient"):
        optimizer.step(state, params, batch, gradient=gradient)


class _NumPy:
    asarray = staticmethod(np.asarray)
