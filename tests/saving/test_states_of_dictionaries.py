"""A state that lost its classes, wholly or in part, is refused by every verb."""

import pytest
from block_case import NumPy
from optimizer_cases import problem
from saved_states import bare, updated, verbs

import kfac_core as kc


def spoiled(part, name=""):
    """Yield trees with one node after the other made bare, and the node's name."""
    if isinstance(part, dict):
        for key, each in part.items():
            for tree, place in spoiled(each, f"{name}.{key}"):
                yield {**part, key: tree}, place
    elif getattr(part, "_fields", ()):
        yield bare(part), name
        for place, (key, each) in enumerate(part._asdict().items()):
            for tree, inner in spoiled(each, f"{name}.{key}"):
                yield part._replace(**{part._fields[place]: tree}), inner


@pytest.mark.parametrize("name", ["dense-bias", "dense-diagonal", "ekfac", "optimizer"])
def test_a_part_that_lost_its_class_raises_no_attribute_error(name):
    spec, state = updated(name)
    refused = 0
    for tree, _ in spoiled(state):
        for verb in verbs(name, spec):
            try:
                verb(tree)  # which may not read the part
            except kc.KfacError:
                refused += 1
    assert refused > 8


def test_the_message_says_what_to_do():
    spec, state = updated("optimizer")
    params, batch = problem(NumPy)
    for tree, _ in [*spoiled(state)][:3]:
        with pytest.raises(kc.errors.StateError, match=r"kfac_core\.from_tree"):
            spec.step(tree, params, batch)


def test_other_errors_stay_what_they_are():
    spec, state = updated("dense-bias")
    with pytest.raises(TypeError, match="unexpected keyword"):
        spec.update_inverses(state, dampings=1.0)


def test_an_optimizer_refuses_a_state_without_one_block():
    spec, state = updated("optimizer")
    params, batch = problem(NumPy)
    blocks = {k: v for k, v in state.estimator.blocks.items() if k != "dense_0"}
    lost = state._replace(estimator=state.estimator._replace(blocks=blocks))
    with pytest.raises(kc.errors.StateError, match="dense_0"):
        spec.step(lost, params, batch)
