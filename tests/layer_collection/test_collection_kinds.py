"""Every kind of layer gets the block that it asks for, by every name."""

import re
from dataclasses import replace

import numpy as np
import pytest
from collection_cases import KINDS, PARAMS, empty

import kfac_core as kc
from kfac_core.layer_collection import APPROXIMATIONS

EVERY = [(kind, approx) for kind, case in KINDS.items() for approx in case.blocks]


def named(block, case):
    return replace(block, name="+".join(case.params))


def test_every_kind_and_every_name_is_here():
    assert {kind: list(table) for kind, table in APPROXIMATIONS.items()} == {
        kind: list(case.blocks) for kind, case in KINDS.items()
    }


def test_the_documentation_lists_them_all():
    doc = re.sub(r"\s+", " ", kc.LayerCollection.__doc__)
    entries = re.findall(r"- ((?:``\w+``,? ?)+): ((?:\w+(?:, )?)+)", doc)
    listed = {
        kind: names.split(", ")
        for kinds, names in entries
        for kind in re.findall(r"\w+", kinds)
    }
    assert listed == {kind: list(table) for kind, table in APPROXIMATIONS.items()}


@pytest.mark.parametrize(("kind", "approx"), EVERY)
def test_block(kind, approx):
    case = KINDS[kind]
    collection = case.register(empty(), approx=approx)
    (layer,) = collection.layers
    assert layer == kc.layer_collection.LayerRegistration(
        case.params, named(case.blocks[approx], case), case.towers
    )
    assert layer.name == "+".join(case.params)
    assert collection.registered_variables == case.params
    (uses,) = {len(tower) for tower in case.towers} or {np.inf}
    assert collection.total_num_uses == dict.fromkeys(case.params, uses)


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_and_their_setters(kind):
    case = KINDS[kind]
    first, *_, last = [*case.blocks, *case.blocks]
    set_default = f"set_default_{kind}_approximation"
    before = empty()
    after = getattr(before, set_default)(last)
    for collection, approx in ((before, first), (after, last)):
        block = case.register(collection).layers[0].block
        assert block == named(case.blocks[approx], case)
    assert getattr(after, set_default)(first).defaults == ((kind, first),)
    with pytest.raises(kc.errors.ArgumentError, match=f"{kind}.*'sum'.*{last}"):
        getattr(before, set_default)("sum")


def test_one_default_for_all_kinds_that_have_it():
    after = empty().set_default_approximation("kron_in_diag")
    assert dict(after.defaults) == {
        "fully_connected": "kron_in_diag",
        "fully_connected_multi": "kron_indep_in_diag",
        "fully_connected_partial_bias": "kron_indep_in_diag",
        "embedding": "kron_in_diag",
        "embedding_multi": "kron_indep_in_diag",
    }
    with pytest.raises(kc.errors.ArgumentError, match=r"all layers is 'sum', expected"):
        empty().set_default_approximation("sum")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_for_then_what_is_linked_then_the_default(kind):
    case = KINDS[kind]
    first, *_, last = [*case.blocks, *case.blocks]
    reversed_params = tuple(reversed(case.params))
    linked = empty().define_linked_parameters(reversed_params, last)
    assert linked.linked_parameters == {frozenset(case.params): last}
    register = case.register
    assert register(linked).layers[0].block == named(case.blocks[last], case)
    asked = register(linked, approx=first).layers[0].block
    assert asked == named(case.blocks[first], case)
    unnamed = empty().define_linked_parameters(case.params)
    assert register(unnamed).layers[0].block == named(case.blocks[first], case)


@pytest.mark.parametrize("kind", KINDS)
def test_an_approximation_of_no_layer_of_its_kind(kind):
    case = KINDS[kind]
    other = "kron_indep" if kind == "generic" else "kron_series_3"
    message = f"lay.*{other}.*{', '.join(case.blocks)}"
    with pytest.raises(kc.errors.ArgumentError, match=message):
        case.register(empty(), approx=other, name="lay")


@pytest.mark.parametrize("kind", KINDS)
def test_options_go_to_the_block(kind):
    case = KINDS[kind]
    block = next(iter(case.blocks.values()))
    collection = case.register(
        empty(), name="lay", matpowers=(-1, -0.5), zero_debias=False
    )
    (layer,) = collection.layers
    expected = replace(block, name="lay", matpowers=(-1, -0.5), zero_debias=False)
    assert (layer.name, layer.block) == ("lay", expected)
    with pytest.raises(kc.errors.ArgumentError, match=r"lay.*'colour'.*matpowers"):
        case.register(empty(), name="lay", colour="red")


def test_options_that_the_registration_makes():
    with pytest.raises(kc.errors.ArgumentError, match="'input_size' cannot be"):
        empty().register_fully_connected("w", "here", input_size=9)
    with pytest.raises(
        kc.errors.ArgumentError, match="'diagonal_approx_for_input' cannot be"
    ):
        empty().register_fully_connected(
            "w", "here", approx="kron_in_diag", diagonal_approx_for_input=False
        )


def test_options_of_one_block():
    collection = empty().register_fully_connected("w", "here", damping_type="exact")
    assert collection.layers[0].block.damping_type == "exact"
    with pytest.raises(kc.errors.ArgumentError, match="damping_type"):
        empty().register_fully_connected(
            "w", "here", approx="diagonal", damping_type="exact"
        )


def test_ids_are_embeddings():
    table = empty().register_fully_connected("table", "here", dense_inputs=False)
    assert table == empty().register_embedding("table", "here")
    series = {"site": ("t1", "t2"), "approx": "kron_indep_out_diag"}
    shared = empty().register_fully_connected_multi(
        "table", dense_inputs=False, **series
    )
    assert shared == empty().register_embedding_multi("table", **series)
    with pytest.raises(kc.errors.ArgumentError, match="expected weights alone"):
        empty().register_fully_connected(("w", "b"), "here", dense_inputs=False)


def test_separable_convolution():
    pointwise = ("pointwise", "pointwise_bias")

    def registered(collection=None, **kwargs):
        return (collection or empty()).register_separable_conv2d(
            "depthwise", pointwise, "first", "second", (2, 2), "SAME", **kwargs
        )

    apart = empty().register_depthwise_conv2d("depthwise", "first", (2, 2), "SAME")
    by_hand = apart.register_conv2d(
        pointwise, "second", (1, 1), "VALID", approx="diagonal"
    )
    assert registered(approx="diagonal") == by_hand
    linked = empty().define_linked_parameters("depthwise", "kron")
    first, second = registered(linked, approx="diagonal").layers
    assert isinstance(first.block, kc.blocks.DepthwiseConvKFCBasicFB)
    assert isinstance(second.block, kc.blocks.ConvDiagonalFB)
    with pytest.raises(
        kc.errors.ShapeError, match=r"'conv2'.*\(1, 1, 4, 'out_channels'\)"
    ):
        empty().register_separable_conv2d(
            "depthwise", "conv2", "first", "second", (2, 2), "SAME"
        )


def test_depthwise_convolution_with_a_bias():
    collection = kc.LayerCollection.of({"w": (3, 3, 2, 2), "b": (4,)})
    registered = collection.register_depthwise_conv2d(("w", "b"), "here", 1, 1)
    assert registered.layers[0].block.has_bias


def test_a_block_of_the_users_own():
    block = kc.blocks.NaiveFullFB(16, name="mine")
    (layer,) = empty().register_block(("w", "b", "scalar"), block).layers
    assert (layer.block, layer.towers, layer.name) == (block, (), "mine")
    own = kc.blocks.FullyConnectedKFACBasicFB(4, 3)
    (layer,) = empty().register_block("w", own, site=("t1", "t2")).layers
    assert (layer.towers, layer.num_uses, layer.name) == ((("t1", "t2"),), 2, "w")
    with pytest.raises(kc.errors.ArgumentError, match="spec of a FisherBlock"):
        empty().register_block("w", kc.blocks.FullyConnectedKFACBasicFB)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_every_block_of_a_convolution_has_its_whole_geometry(data_format):
    given = {"strides": (2, 3), "padding": "SAME", "data_format": data_format}
    for approx in APPROXIMATIONS["conv2d"]:
        made = empty().register_conv2d("conv2", "here", **given, approx=approx)
        wanted = kc.ConvolutionGeometry((3, 3, 2, 4), **given)
        block = made.layers[0].block
        assert getattr(block, "block", block).geometry == wanted  # of one around it


@pytest.mark.parametrize("approx", ["expand", "reduce", "kron_indep"])
@pytest.mark.parametrize("given", [None, True, False])
def test_cases_come_first_in_data_that_positions_share(approx, given):
    made = empty().register_fully_connected_multi(
        "w", "here", num_uses=2, batch_first=given, approx=approx
    )
    block = made.layers[0].block
    wanted = approx != "kron_indep" if given is None else given
    assert getattr(block, "block", block).batch_first is wanted


def test_options_of_reduce_alone():
    made = empty().register_embedding_multi(
        "table", "here", num_uses=2, approx="reduce", diagonal_approx_for_input=True
    )
    assert made.layers[0].block.diagonal_approx_for_input


def test_strides_are_those_of_spatial_axes_alone():
    with pytest.raises(kc.errors.ShapeError, match="none for the batch"):
        empty().register_conv2d("conv2", "here", (2, 2, 2, 1), "SAME")


BAD_SHAPES = {
    "rank of dense weights": (("fully_connected", "conv1"), {}, "'conv1'.*input_size"),
    "bias of another size": (
        ("fully_connected", ("w", "shift")),
        {},
        "'shift'.*of 3 e",
    ),
    "rank of a table": (("embedding", "b"), {}, r"'b' has shape \(3,\).*vocab_size"),
    "rank of a filter": (
        ("conv2d", "conv1"),
        {"strides": 1, "padding": "SAME"},
        "'conv1'.*height, width",
    ),
    "no filter at all": (
        ("convolution", "b"),
        {"strides": 1, "padding": 1},
        "'b'.*width, in_ch",
    ),
    "strides": (
        ("conv2d", "conv2"),
        {"strides": (1, 1, 1), "padding": "SAME"},
        "conv2: strides",
    ),
    "scale": (
        ("scale_and_shift", "scale"),
        {"input_shape": (4,)},
        "scale",
    ),
}


@pytest.mark.parametrize("bad", BAD_SHAPES)
def test_shapes_that_no_such_layer_has(bad):
    (function, params), kwargs, message = BAD_SHAPES[bad]
    with pytest.raises(kc.errors.ShapeError, match=message):
        getattr(empty(), f"register_{function}")(params, site="here", **kwargs)


def test_params_may_be_arrays_or_shapes(library):
    arrays = {
        name: library.asarray(np.zeros(getattr(value, "shape", value)))
        for name, value in PARAMS.items()
    }
    collection = kc.LayerCollection.of(arrays)
    assert collection == empty()
    assert [name for name, _ in collection.variables] == list(PARAMS)
    assert collection.shapes["conv3"] == (2, 2, 2, 2, 4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": {"w": (2, 3)}}, "'a'.*flatten"),
        ({"a": "wide"}, "'a' is a str"),
        ({3: (2,)}, "3.*no text"),
        ([("a", (2,))], "list"),
    ],
)
def test_params_of_no_known_form(params, message):
    with pytest.raises(kc.errors.ArgumentError, match=message):
        kc.LayerCollection.of(params)
