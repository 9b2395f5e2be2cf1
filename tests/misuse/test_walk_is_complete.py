"""No public callable is left out of the walk without a reason."""

import pytest
from public_callables import (
    EXEMPT,
    LOW_LEVEL,
    WALKED_IN,
    is_walked,
    modules_for,
    public,
    reason,
    verbs_of,
)

import kfac_core as kc
from kfac_core import reference, testing
from kfac_core.contrib import fisher_blocks, fisher_factors
from kfac_core.estimator import BlockTridiagonalEstimator

# What the library itself calls, or what has no argument of a user.
OWN = {"known_cases", "factor_type", "factor_form"}
OWN |= {"available_backends", "state_classes", "called", "check_state"}
OWN |= {"to_tensors", "from_tensors"}  # which take what a verb has checked
OWN |= {"count", "index"}  # of tuples
OWN |= {"iris"}  # which are always the same
# Of layers of the reference: how they compute and check, not what they are asked.
OWN |= {"rows", "pair", "output_shape", "cached_inputs", "paired"}
OWN |= {"check_params", "check_arguments", "check_like_outputs"}
OWN |= {"array", "numpy", "floats"}  # of a backend on trial


def owners():
    doors = (kc.blocks, kc.factors, kc.losses, kc.layer_collection)
    modules = (kc, *doors, fisher_factors, fisher_blocks, reference, testing)
    exported = [(m, owner) for m in modules for owner in public(m)]
    exported.append((kc, BlockTridiagonalEstimator))  # no door of the library has it
    return {f"{m.__name__}.{owner.__name__}": owner for m, owner in exported}


@pytest.mark.parametrize("owner", owners().values(), ids=owners())
def test_every_verb_is_walked_or_exempt(owner):
    if reason(owner):
        return
    left_out = [
        str(verb)
        for verb in verbs_of(owner)
        if verb.name not in OWN and not is_walked(verb)
    ]
    assert not left_out, f"not walked in {modules_for(owner) or 'any module'}"


@pytest.mark.parametrize("module", LOW_LEVEL, ids=lambda module: module.__name__)
def test_what_leaves_checks_to_its_callers_says_so(module):
    assert LOW_LEVEL[module] in module.__doc__


def test_a_class_that_no_table_has_is_told_of():
    class Unknown:
        def verb(self, argument):
            return argument

    assert reason(Unknown) is None
    assert [verb.name for verb in verbs_of(Unknown) if not is_walked(verb)] == ["verb"]


def test_a_verb_that_no_table_has_is_told_of():
    class Another(kc.factors.FullyConnectedKroneckerFactor):
        def get_something(self, state):
            return state

    left_out = [v.name for v in verbs_of(Another) if not is_walked(v)]
    assert set(left_out) - OWN == {"get_something"}


def test_every_exemption_has_a_class_and_a_reason():
    exported = owners().values()
    for base, why in EXEMPT.items():
        assert why
        assert any(isinstance(e, type) and base in e.__mro__ for e in exported), base
    assert not set(EXEMPT) & set(WALKED_IN)
