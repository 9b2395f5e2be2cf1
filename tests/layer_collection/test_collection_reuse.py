"""Towers, overlaps and links: what is refused leaves nothing, all else a copy."""

import re

import pytest
from collection_cases import KINDS, empty

import kfac_core as kc


def of_three():
    return kc.LayerCollection.of(dict.fromkeys("xyz", (2,)))


@pytest.fixture
def dense():
    return empty().register_fully_connected(("w", "b"), site="here")


def refused(collection, call, *words, error=kc.errors.RegistrationError):
    """Check that a call raises an error of these words and changes nothing."""
    before = hash(collection), repr(collection)
    with pytest.raises(error) as caught:
        call(collection)
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in str(caught.value)
    assert (hash(collection), repr(collection)) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reuse", [True, "auto"])
def test_one_more_tower(kind, reuse):
    case = KINDS[kind]
    collection = case.register(empty(), reuse=False)
    kept = repr(collection), hash(collection)
    if not case.towers:  # of a generic one there are none: nothing is added
        assert case.register(collection, reuse=reuse) == collection
        return
    (tower,) = case.towers
    another = tuple(f"{site}_2" for site in tower)
    at = case.at(another)
    grown = case.register(collection, reuse=reuse, **at)
    (layer,) = grown.layers
    assert layer.towers == (tower, another)
    assert layer.sites == (*tower, *another)
    assert layer.num_uses == 2 * len(tower)
    assert layer.block == collection.layers[0].block
    assert (repr(collection), hash(collection)) == kept
    assert grown != collection
    # The other way round it is the same layer, its towers in the other order.
    swapped = case.register(case.register(empty(), **at), reuse=reuse)
    assert swapped.layers[0].towers == (another, tower)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_must_be_said_to_be(kind):
    case = KINDS[kind]
    first, *others = case.blocks
    refused(
        empty(), lambda lc: case.register(lc, reuse=True), repr(case.params[0]), "not"
    )
    assert case.register(empty(), reuse="auto") == case.register(empty())
    collection = case.register(empty(), approx=first)
    refused(collection, case.register, repr(case.params[0]), "already", "reuse=True")
    refused(
        collection,
        lambda lc: case.register(lc, reuse="yes"),
        "'yes'",
        error=kc.errors.ArgumentError,
    )
    for other in others:
        if case.blocks[other] != case.blocks[first]:
            refused(
                collection,
                lambda lc, other=other: case.register(lc, approx=other, reuse=True),
                "differ",
            )


def test_a_tower_of_another_block_or_options(dense):
    for reuse in (True, "auto"):
        refused(
            dense,
            lambda lc, reuse=reuse: lc.register_fully_connected(
                ("w", "b"), "there", reuse=reuse, approx="diagonal"
            ),
            "FullyConnectedKFACBasicFB and FullyConnectedDiagonalFB",
        )
        refused(
            dense,
            lambda lc, reuse=reuse: lc.register_fully_connected(
                ("w", "b"), "there", reuse=reuse, damping_type="exact"
            ),
            "damping_type 'pi' and 'exact'",
        )
    # A name is for messages, and makes no other layer.
    grown = dense.register_fully_connected(("w", "b"), "there", reuse=True, name="n")
    assert [layer.name for layer in grown.layers] == ["w+b"]


def test_another_way_to_write_the_strides_is_the_same_block():
    args = {"params": "conv2", "padding": "same", "reuse": "auto"}
    collection = empty().register_conv2d(site="one", strides=(2, 2), **args)
    assert len(collection.register_conv2d(site="two", strides=2, **args).layers) == 1


def test_uses_and_sites():
    multi = "register_fully_connected_multi"
    folded = getattr(empty(), multi)("w", site="rnn", num_uses=3)
    (layer,) = folded.layers
    assert (layer.towers, layer.num_uses) == ((("rnn",),), 1)
    assert layer.block.num_uses == 3
    grown = getattr(folded, multi)("w", site=("t1", "t2", "t3"), reuse=True)
    assert grown.total_num_uses == {"w": 4}
    refused(
        folded,
        lambda lc: getattr(lc, multi)("w", site=("t1", "t2"), reuse=True),
        "num_uses 3 and 2",
    )
    for kwargs, word in [
        ({"site": "rnn"}, "by num_uses"),
        ({"site": ("t1", "t2"), "num_uses": 3}, "there are 2 sites"),
        ({"site": ("t1", "t1")}, "each once"),
        ({"site": ()}, "expected the name of a site"),
        ({"site": None}, "expected a site"),
        ({"site": "rnn", "num_uses": 0}, "num_uses"),
    ]:
        refused(
            empty(),
            lambda lc, kwargs=kwargs: getattr(lc, multi)("w", **kwargs),
            word,
            error=kc.errors.ArgumentError,
        )
    refused(
        empty(),
        lambda lc: lc.register_fully_connected("w", site=("t1", "t2")),
        "_multi",
        error=kc.errors.ArgumentError,
    )


def test_a_site_is_one_use_of_one_layer(dense):
    refused(
        dense,
        lambda lc: lc.register_fully_connected(("w", "b"), "here", reuse=True),
        "'here'",
        "w+b",
    )
    refused(dense, lambda lc: lc.register_embedding("table", "here"), "table", "'here'")


def test_a_layer_has_a_name_of_its_own(dense):
    refused(
        dense, lambda lc: lc.register_embedding("table", "there", name="w+b"), "'table'"
    )


def test_sites_always_or_never():
    block = kc.blocks.NaiveDiagonalFB(12)
    without = empty().register_block("w", block)
    refused(without, lambda lc: lc.register_block("w", block, "here", True), "'here'")
    with_one = empty().register_block("w", block, "here")
    refused(with_one, lambda lc: lc.register_block("w", block, None, True), "'here'")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("xyz", "xy"),
        ("xy", "xyz"),
        ("x", "xy"),
        ("xy", "y"),
        ("xy", "yz"),
        ("xy", "yx"),
    ],
)
@pytest.mark.parametrize("reuse", [False, True, "auto"])
def test_overlaps(first, second, reuse):
    collection = of_three().register_generic(tuple(first), name="old")
    words = ["not registered"] if reuse is True else ["old", *map(repr, first)]
    again = {"params": tuple(second), "reuse": reuse, "name": "new"}
    refused(collection, lambda lc: lc.register_generic(**again), "new: ", *words)


def test_names_of_parameters():
    for params, word in [("v", "'v'"), (("x", "x"), "each once"), ((), "(none)")]:
        refused(
            of_three(),
            lambda lc, params=params: lc.register_generic(params),
            word,
            error=kc.errors.ArgumentError,
        )


def test_links():
    linked = of_three().define_linked_parameters(("x", "y"))
    assert linked.linked_parameters == {frozenset("xy"): None}
    for params in map(tuple, ("x", "xyz", "yz")):
        for verb in ("register_generic", "define_linked_parameters"):
            refused(linked, lambda lc, v=verb, p=params: getattr(lc, v)(p), "linked")
    both = linked.register_generic(("y", "x")).define_linked_parameters("z", "full")
    assert isinstance(both.register_generic("z").layers[1].block, kc.blocks.NaiveFullFB)
    registered = of_three().register_generic(("x", "y"), name="old")
    refused(
        registered, lambda lc: lc.define_linked_parameters(("y", "z")), "'y'", "old"
    )
    assert registered.define_linked_parameters(("y", "x")).links
    refused(
        of_three(),
        lambda lc: lc.define_linked_parameters("x", "fool"),
        "'fool'",
        error=kc.errors.ArgumentError,
    )
    wrong = empty().define_linked_parameters("w", "full")
    refused(
        wrong,
        lambda lc: lc.register_fully_connected("w", "here"),
        "w: ",
        "'full'",
        "linked",
        error=kc.errors.ArgumentError,
    )


def test_the_same_steps_give_the_same_collection(dense):
    again = empty().register_fully_connected(("w", "b"), site="here")
    assert again == dense
    assert hash(again) == hash(dense)
    assert {dense: 1}[again] == 1
    assert re.match(r"LayerCollection\(variables=", repr(dense))
