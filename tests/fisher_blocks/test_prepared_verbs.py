"""What a prepared verb has not seen yet goes the way of the verb, errors included."""

import sys

import numpy as np
import pytest

import kfac_core as kc
from kfac_core import tree
from kfac_core.recording.program import with_sources
from kfac_core.recording.tape import Tape

BLOCK = kc.blocks.FullyConnectedKFACBasicFB(3, 2, name="fc")


@pytest.fixture
def data(rng):
    return rng.normal(size=(5, 3)), rng.normal(size=(5, 2))


@pytest.fixture
def verbs(data):
    """Return the three verbs, prepared, and a state that all of them have seen."""
    found = [kc.prepared(BLOCK.update_covs), kc.prepared(BLOCK.update_inverses)]
    found.append(kc.prepared(BLOCK.multiply_inverse))
    state = BLOCK.init(data[0])
    for _ in range(2):
        state = found[0](state, *data, ema_decay=0.5)
        state = found[1](state, 0.1)
        found[2](state, np.ones((3, 2)))
    # The first inverses go another way: there are none to take the flags of.
    assert [verb.forms for verb in found] == [1, 2, 1]
    return (*found, state)


def same_error(verb, *args, **kwargs):
    """Check that a prepared verb raises what the verb does; return the error."""
    with pytest.raises(kc.KfacError) as expected:
        verb.verb(*args, **kwargs)
    with pytest.raises(type(expected.value)) as found:
        verb(*args, **kwargs)
    assert str(found.value) == str(expected.value)
    return found.value


def changed(x, value):
    x = np.array(x)
    x.flat[-1] = value
    return x


def test_errors_are_those_of_the_verb(verbs, data):
    update_covs, update_inverses, multiply_inverse, state = verbs
    x, g = data
    errors = kc.errors
    wrong = {
        errors.NotFiniteError: [(changed(x, np.nan), g), (x, changed(g, np.inf))],
        errors.ShapeError: [(x[:, :2], g), (x, g[:3]), (x[0], g), (x[:0], g[:0])],
        errors.DTypeError: [(x.astype(int), g), (x, g.astype(complex))],
        errors.BackendError: [(x.tolist(), g), (np.ma.array(x), g)],
    }
    for kind, batches in wrong.items():
        for batch in batches:
            error = same_error(update_covs, state, *batch, ema_decay=0.5)
            assert isinstance(error, kind)
    for decay in (-0.1, 1.1, float("nan"), "0.5", True):
        same_error(update_covs, state, x, g, ema_decay=decay)
    for damping in (-1.0, float("inf"), float("nan"), None, np.ones(2)):
        same_error(update_inverses, state, damping)
    for vector in (np.ones((2, 3)), changed(np.ones((3, 2)), np.nan), 1.0):
        same_error(multiply_inverse, state, vector)


def test_a_state_of_another_spec_is_refused(verbs, data):
    update_covs, update_inverses, multiply_inverse, state = verbs
    more = kc.blocks.FullyConnectedKFACBasicFB(3, 2, matpowers=(-1, -0.5))
    wider = kc.blocks.FullyConnectedKFACBasicFB(4, 2)
    for other in (more.init_inverses(state), wider.init(data[0]), state.input_factor):
        same_error(update_covs, other, *data, ema_decay=0.5)
        same_error(update_inverses, other, 0.1)
        same_error(multiply_inverse, other, np.ones((3, 2)))


def test_what_is_not_positive_definite_is_refused(verbs, data):
    _, update_inverses, multiply_inverse, state = verbs
    x, g = data
    zero = BLOCK.update_covs(state, x * 0, g, ema_decay=0.0)
    same_error(update_inverses, zero, 0.0)
    same_error(multiply_inverse, BLOCK.init(x), np.ones((3, 2)))
    same_error(update_inverses, BLOCK.init(x), 0.1)


def test_another_way_through_the_verb_is_another_form(verbs, data):
    _, update_inverses, _, state = verbs
    x, g = data
    # The side with the larger mean eigenvalue is told apart by a branch.
    for scale in (1e-3, 1e3, 1e-3, 1e3):
        other = BLOCK.update_covs(state, x * scale, g, ema_decay=0.0)
        found, expected = update_inverses(other, 0.1), BLOCK.update_inverses(other, 0.1)
        for one, two in zip(tree.leaves(found), tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one, two)
    assert update_inverses.forms == 3


def test_other_shapes_and_dtypes_are_other_forms(verbs, data):
    update_covs, state = verbs[0], verbs[3]
    x, g = data
    for k in range(20):
        batch = np.concatenate([x] * (k + 2)), np.concatenate([g] * (k + 2))
        found = update_covs(state, *batch, ema_decay=0.5)
        expected = BLOCK.update_covs(state, *batch, ema_decay=0.5)
        one, two = found.input_factor.cov.total, expected.input_factor.cov.total
        np.testing.assert_array_equal(one, two)
    assert update_covs.forms == 8
    small = BLOCK.init(x.astype("float32"))
    assert isinstance(
        same_error(update_covs, small, x, g, ema_decay=0.5), kc.errors.DTypeError
    )


def test_nothing_given_is_changed_and_nothing_returned_is_shared(verbs, data):
    update_covs, update_inverses, _, state = verbs
    before = [np.array(x) for x in tree.leaves(state)]
    one = update_inverses(update_covs(state, *data, ema_decay=0.5), 0.1)
    two = update_inverses(update_covs(state, *data, ema_decay=0.5), 0.1)
    for old, x in zip(before, tree.leaves(state), strict=True):
        np.testing.assert_array_equal(old, x)
    own = [x for x in tree.leaves(one) if x is not state.input_factor.computed]
    given = {id(x) for x in tree.leaves(state)}
    assert len({id(x) for x in own}) == len(own)
    made = {id(x) for x in tree.leaves(two)} - given
    assert not made & {id(x) for x in own}


def test_few_functions_are_called(verbs, data):
    update_covs, update_inverses, multiply_inverse, state = verbs
    calls = {
        lambda: update_covs(state, *data, ema_decay=0.5): 18,
        lambda: update_inverses(state, 0.1): 40,
        lambda: multiply_inverse(state, np.ones((3, 2))): 13,
    }
    for call, most in calls.items():
        assert own_calls(call) <= most


def own_calls(function):
    """Count the calls of functions of this project, and of what it has written."""
    found = 0

    def count(frame, event, _):
        nonlocal found
        name = frame.f_code.co_filename
        found += event == "call" and ("kfac_" in name or name == "<prepared>")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found


def test_a_gradient_is_not_lost(torch):
    multiply = kc.prepared(BLOCK.multiply_inverse)
    x = torch.ones(4, 3, dtype=torch.float64)
    state = BLOCK.update_covs(BLOCK.init(x), x, x[:, :2], ema_decay=0.5)
    state, vector = BLOCK.update_inverses(state, 0.1), torch.ones(3, 2).double()
    expected = multiply(state, vector)
    assert multiply.forms == 1
    found = multiply(state, vector.requires_grad_())
    found.sum().backward()
    assert vector.grad is not None
    assert torch.equal(found.detach(), expected)
    assert not multiply(state, torch.ones(3, 2).double()).requires_grad
    mapped = torch.func.vmap(lambda v: multiply(state, v))(vector.detach()[None])
    assert torch.allclose(mapped[0], expected)


def test_verbs_of_jax_are_called_themselves(jax):
    x = jax.numpy.ones((4, 3))
    update_covs = kc.prepared(BLOCK.update_covs)
    state = update_covs(BLOCK.init(x), x, x[:, :2], ema_decay=0.5)
    state = jax.jit(update_covs)(state, x, x[:, :2], ema_decay=0.5)
    assert update_covs.forms == 0
    np.testing.assert_allclose(state.input_factor.cov.total, 1.5, rtol=1e-6)


def test_a_form_that_is_read_is_that_of_all_it_is_made_of():
    two = np.asarray(2.0)
    tape = Tape(kc.backend_of(two))
    first, second, other = (tape.stand_in(two) for _ in range(3))
    number = first * second + 1  # with NumPy a scalar, and no array
    assert number.dtype == two.dtype
    forms = with_sources(tape)
    assert {first.place, second.place} <= forms
    assert other.place not in forms
