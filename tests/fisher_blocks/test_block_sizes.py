"""A size that is none is refused where it is given, by its name and the layer's."""

from dataclasses import fields, replace

import numpy as np
import pytest
from block_cases import BLOCKS

import kfac_core as kc
from kfac_core.arguments.sizes import SHAPES, SIZES

BAD = [0, -1, 2.5, "3", True, np.float64(2), np.bool_(True), float("nan"), [3], (2,)]
BAD_SHAPES = [3, "33", None, (3, 0, 2, 2), (3, -1, 2, 2), (3, 2.5, 2, 2)]
BAD_SHAPES += [(3, "3", 2, 2), (3, True, 2, 2), (3, None, 2, 2), {3, 2}]
NAMED = [
    (name, each.name)
    for name, case in BLOCKS.items()
    for each in fields(case.make())
    if each.init
]
OF_ALL = [pair for pair in NAMED if pair[1] in SIZES]


@pytest.mark.parametrize(("name", "field"), OF_ALL)
def test_what_is_no_size_is_refused(name, field):
    block = BLOCKS[name].make(name="w7")
    for value in [*BAD, *([None] if getattr(block, field) is not None else [])]:
        optional = value is None and field in {
            "num_uses",
            "multiplier",
            "input_max_rows",
            "output_max_rows",
        }
        if optional:
            continue
        with pytest.raises(
            kc.errors.ArgumentError, match=rf"^w7: {field} is .*positive int"
        ):
            replace(block, **{field: value})


@pytest.mark.parametrize(
    ("name", "field"), [pair for pair in NAMED if pair[1] in SHAPES]
)
def test_what_is_no_shape_is_refused(name, field):
    block = BLOCKS[name].make(name="w7")
    for value in BAD_SHAPES:
        with pytest.raises(
            kc.errors.ArgumentError, match=rf"^w7: {field} is .*positive int"
        ):
            replace(block, **{field: value})


@pytest.mark.parametrize(("name", "field"), OF_ALL)
def test_sizes_of_numpy_make_equal_specs(name, field):
    block = BLOCKS[name].make(name="w7")
    value = getattr(block, field)
    if value is None:
        return
    same = replace(block, **{field: np.int64(value)})
    assert same == block
    assert hash(same) == hash(block)
    assert type(getattr(same, field)) is int


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_no_flag_is_refused(name):
    block = BLOCKS[name].make(name="w7")
    for field in [each.name for each in fields(block) if each.type is bool]:
        for value in (1, 0, "yes", None, 0.5):
            wanted = rf"^w7: {field} is .*True or False"
            with pytest.raises(kc.errors.ArgumentError, match=wanted):
                replace(block, **{field: value})


@pytest.mark.parametrize("field", ["strides", "dilations"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True, (1, 0), (1, 2.5), (True, 1)])
def test_what_is_no_step_is_refused(field, value):
    with pytest.raises(kc.KfacError, match=rf"^w7: {field} is"):
        kc.ConvolutionGeometry(
            (3, 3, 2, 4), padding="SAME", name="w7", **{field: value}
        )


@pytest.mark.parametrize(
    "padding", [-1, 2.5, True, None, "3", (1,), (1, 2.5), ((1, 2, 3), 1), (True, 1)]
)
def test_what_is_no_padding_is_refused(padding):
    with pytest.raises(kc.errors.ArgumentError, match=r"^w7: padding is"):
        kc.ConvolutionGeometry((3, 3, 2, 4), padding=padding, name="w7")


def test_steps_and_widths_of_numpy_make_equal_geometries():
    ours, theirs = (
        kc.ConvolutionGeometry((3, 3, 2, 4), padding=two, strides=two)
        for two in (2, np.int64(2))
    )
    assert ours == theirs
    assert ours.window == theirs.window
    assert hash(ours) == hash(theirs)


@pytest.mark.parametrize("shape", [(None, 3), (2.5, 3), (-1, 3), ("a", 3), (True, 3)])
def test_a_collection_takes_no_other_shapes(shape):
    with pytest.raises(kc.errors.ArgumentError, match=r"'w' is a tuple, .*a shape"):
        kc.LayerCollection.of({"w": shape})
    with pytest.raises(kc.errors.ArgumentError, match=r"'w' is a set, .*a shape"):
        kc.LayerCollection.of({"w": {2, 3}})


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True, [6]])
def test_registrations_name_the_number(value):
    collection = kc.LayerCollection.of({"w": (4, 4), "c": (3, 3, 2, 4)})
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^w: num_uses is .*positive integer"
    ):
        collection.register_fully_connected_multi("w", "x", num_uses=value)
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^w: num_uses is .*positive integer"
    ):
        collection.register_fully_connected_multi("w", ("x", "y"), num_uses=value)
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^c: num_groups is .*positive integer"
    ):
        collection.register_grouped_convolution("c", "x", value, 1, "SAME")
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^w: .*max_rows is .*positive integer"
    ):
        collection.register_fully_connected("w", "x", input_max_rows=value)
