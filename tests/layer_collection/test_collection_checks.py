"""`check_registration` names all that is wrong at once."""

import numpy as np
import pytest

import kfac_core as kc

SHAPES = {"w1": (4, 3), "b1": (3,), "w2": (3, 2), "w3": (5, 5)}


@pytest.fixture
def whole():
    return (
        kc.LayerCollection.of(SHAPES)
        .register_fully_connected(("w1", "b1"), "hidden")
        .register_fully_connected_multi("w2", ("t1", "t2"))
        .register_generic("w3")
        .register_squared_error_loss("out")
    )


def problems(collection, *args, **kwargs):
    with pytest.raises(kc.errors.RegistrationError) as caught:
        collection.check_registration(*args, **kwargs)
    first, *lines = str(caught.value).split("\n- ")
    assert first == "the collection does not fit the model:"
    return lines


def assert_named(lines, *expected):
    assert len(lines) == len(expected), lines
    for line, words in zip(lines, expected, strict=True):
        assert all(word in line for word in words), (line, words)


def test_a_collection_that_fits(whole):
    whole.check_registration()
    whole.check_registration(SHAPES)
    arrays = {name: np.zeros(shape) for name, shape in reversed(SHAPES.items())}
    whole.check_registration(arrays, uses={"w1": 1, "b1": 1, "w2": 2, "w3": 17})
    whole.check_registration(uses={})


def test_nothing_is_registered():
    lines = problems(kc.LayerCollection.of(SHAPES))
    assert_named(
        lines,
        *((repr(name), str(shape), "no layer") for name, shape in SHAPES.items()),
        ("no loss",),
    )


def test_all_problems_at_once(whole):
    variables = {"w1": (3, 4), "b1": (3,), "w3": (5, 5), "w4": (1,), "w5": ()}
    uses = {"w1": 2, "w2": 2, "b1": 1, "w3": 9, "v": 1}
    assert_named(
        problems(whole, variables, uses),
        ("'w1'", "(3, 4)", "(4, 3)", "w1+b1"),
        ("'w4'", "(1,)", "no layer"),
        ("'w5'", "()", "no layer"),
        ("'w2'", "no such parameter"),
        ("'w1'", "2 times", "registered for 1"),
        ("'v'", "no such parameter"),
    )


def test_uses_count_towers_and_sites(whole):
    more = whole.register_fully_connected_multi("w2", ("t3", "t4"), reuse=True)
    more = more.register_generic("w3", reuse=True)
    more.check_registration(uses={"w2": 4, "w3": 1})
    assert more.total_num_uses == {"w1": 1, "b1": 1, "w2": 4, "w3": np.inf}
    assert_named(
        problems(more, uses={"w2": 2}), ("'w2'", "2 times", "registered for 4")
    )


def test_a_check_changes_nothing(whole):
    before = hash(whole), repr(whole)
    problems(whole, {"v": (1,)}, {"u": 1})
    assert (hash(whole), repr(whole)) == before
