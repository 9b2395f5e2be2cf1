"""A state is the same after a flat dictionary of its arrays, in any library."""

import numpy as np
import pytest
from block_cases import BLOCKS
from factor_cases import FACTORS
from saved_states import NAMES, bare, empty, equal, updated

import kfac_core as kc


@pytest.mark.parametrize("name", NAMES)
def test_a_state_returns_in_every_library(plain_library, name):
    spec, state = updated(name)
    template = empty(spec, plain_library)
    found = kc.state_from_dict(template, kc.state_to_dict(state))
    equal(found, state)
    kind = type(plain_library.asarray(np.zeros(1)))
    named = kc.state_to_dict(found)
    assert {type(x) for x in named.values()} == {kind}
    equal(kc.state_from_dict(state, named), state)


def test_names_are_fields_layers_and_places():
    _, state = updated("optimizer")
    named = kc.state_to_dict(state)
    assert (
        named["estimator.blocks.dense_0.input_factor.derived.matpowers.0"]
        is (state.estimator.blocks["dense_0"].input_factor.derived.matpowers[0])
    )
    assert named["velocity.dense_0/bias"] is state.velocity["dense_0/bias"]
    assert b"momentum_type='qmodel'" in named["made_by"].tobytes()


def test_arrays_of_the_library_are_not_copied():
    spec, state = updated("dense-bias")
    found = kc.state_from_dict(spec.init(np.zeros(1)), kc.state_to_dict(state))
    assert found.input_factor.cov.total is state.input_factor.cov.total


def test_a_tensor_with_a_graph_is_cut_off(torch):
    spec = kc.blocks.FullyConnectedKFACBasicFB(2, 1)
    template = spec.init(torch.zeros(1))
    named = kc.state_to_dict(template)
    named["damping"] = named["damping"].requires_grad_() * 1
    assert not kc.state_from_dict(template, named).damping.requires_grad


def without(named, name):
    return {key: x for key, x in named.items() if key != name}


FAULTS = {
    "a missing array": (
        lambda d: without(d, "scale"),
        kc.errors.StateError,
        "lacks 'scale'",
    ),
    "no signature": (
        lambda d: without(d, "made_by"),
        kc.errors.StateError,
        "lacks 'made_by'",
    ),
    "an unknown array": (
        lambda d: d | {"a": d["scale"]},
        kc.errors.StateError,
        "has 'a'",
    ),
    "another shape": (
        lambda d: d | {"scale": np.ones(2)},
        kc.errors.ShapeError,
        r"scale has shape \(2,\)",
    ),
    "another dtype": (
        lambda d: d | {"scale": np.ones((), np.float32)},
        kc.errors.DTypeError,
        "scale has dtype float32",
    ),
    "no array": (lambda d: d | {"scale": 1.0}, kc.errors.BackendError, "scale"),
    "a broken signature": (
        lambda d: d | {"made_by": d["made_by"][:-1]},
        kc.errors.StateError,
        "made_by",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_belong_is_refused(fault):
    spec, state = updated("dense-bias")
    spoil, error, message = FAULTS[fault]
    with pytest.raises(error, match=message):
        kc.state_from_dict(spec.init(np.zeros(1)), spoil(kc.state_to_dict(state)))


def test_powers_in_another_order_are_refused():
    _, state = updated("dense-bias", powers=(-1, -0.5))
    other, _ = updated("dense-bias", powers=(-0.5, -1))
    with pytest.raises(kc.errors.StateError, match="matpowers"):
        kc.state_from_dict(other.init(np.zeros(1)), kc.state_to_dict(state))


@pytest.mark.parametrize("value", [7, 2**40])
def test_counters_may_be_of_another_length_if_they_fit(value):
    _, state = updated("optimizer")
    state = state._replace(counter=np.asarray(value, np.int64))
    template = state._replace(counter=np.asarray(0, np.int32))
    if value == 7:
        found = kc.state_from_dict(template, kc.state_to_dict(state))
        assert found.counter.dtype == np.int32
        assert found.counter == 7
    else:
        with pytest.raises(kc.errors.DTypeError, match="counter"):
            kc.state_from_dict(template, kc.state_to_dict(state))


def test_layers_whose_arrays_share_a_name_are_refused():
    _, part = updated("dense-diagonal")
    tangled = {"a": {"parts": (part,)}, "a.parts.0": part}
    with pytest.raises(kc.errors.ArgumentError, match=r"a\.parts\.0\.factor\.cov"):
        kc.state_to_dict(tangled)


@pytest.mark.parametrize("sequence", [list, tuple, lambda x: dict(enumerate(x))])
@pytest.mark.parametrize("name", NAMES)
def test_a_tree_without_classes_becomes_a_state(name, sequence):
    spec, state = updated(name)
    template = spec.init(np.zeros(1)) if name != "optimizer" else state
    equal(kc.from_tree(template, bare(state, sequence)), state)


def test_a_tree_that_lacks_an_array_is_refused():
    spec, state = updated("dense-bias")
    lost = bare(state)
    del lost["uses"]
    with pytest.raises(kc.errors.StateError, match=r"lacks 'uses\.total'"):
        kc.from_tree(spec.init(np.zeros(1)), lost)


def test_a_tree_is_refused_where_names_are_expected():
    spec, state = updated("dense-bias")
    with pytest.raises(kc.errors.StateError, match="without its classes"):
        kc.state_from_dict(spec.init(np.zeros(1)), bare(state))


def test_there_is_no_array_in_nothing():
    with pytest.raises(kc.errors.StateError, match="without arrays"):
        kc.state_to_dict(())


def test_all_classes_of_states_are_listed():
    found = set()

    def look(part):
        if isinstance(part, dict):
            any(map(look, part.values()))
        elif isinstance(part, tuple):
            if getattr(part, "_fields", ()):
                found.add(type(part))
            any(map(look, part))

    specs = [case.made(None, ()) for case in BLOCKS.values()]
    specs += [case.make() for case in FACTORS.values()]
    for spec in specs:
        look(spec.init(np.zeros(1)))
    for name in NAMES:
        look(updated(name)[1])
    assert found <= {*kc.state_classes()}
