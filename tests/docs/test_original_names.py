"""The tables of the original's names are complete, and every name in them exists."""

import dataclasses
import importlib
import inspect
from pathlib import Path

import documented_library as library
import numpy as np
import pytest
from documented_classes import DOCUMENTED

import kfac_core
from kfac_core.contrib import fisher_blocks, fisher_factors, loss_functions

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[2] / "docs")
    listed = importlib.import_module("tf_contrib_kfac.names")
    tables = importlib.import_module("tf_contrib_kfac.tables")

CONTRIB = {
    "fisher_factors": fisher_factors,
    "fisher_blocks": fisher_blocks,
    "loss_functions": loss_functions,
}
CORE = {
    "fisher_factors": kfac_core.factors,
    "fisher_blocks": kfac_core.blocks,
    "loss_functions": kfac_core.losses,
}
MODULES = {
    original.name: module
    for module in ("fisher_factors", "fisher_blocks")
    for original in listed.CLASSES[module]
}
CLASSES = {
    original.name: original
    for module in ("fisher_factors", "fisher_blocks")
    for original in listed.CLASSES[module]
}
LOSSES = {original.name: original for original in listed.CLASSES["loss_functions"]}
CORE_ALONE = {original.name: original for original in listed.CORE_ALONE}

every_class = pytest.mark.parametrize("name", DOCUMENTED)


def names(text):
    return [name for name in text.split(", ") if name]


def check_targets(owner, declared):
    for target in declared.values():
        assert target.core or target.note
        if target.core:
            tables.resolve(owner, target.core)


def test_no_class_is_missing_or_invented():
    assert CLASSES.keys() == DOCUMENTED.keys()
    assert sum(map(len, listed.CLASSES.values())) == len(CLASSES) + len(LOSSES)
    assert LOSSES.keys() == {"LossFunction", *library.LOSSES}
    assert CORE_ALONE.keys() == library.CORE_ALONE.keys()
    assert len(listed.CORE_ALONE) == len(CORE_ALONE)


@pytest.mark.parametrize("module", CONTRIB)
def test_every_public_class_of_contrib_is_in_the_tables(module):
    offered = vars(CONTRIB[module])
    public = {
        name
        for name, member in offered.items()
        if inspect.isclass(member)
        and not name.startswith("_")
        and name in offered.get("__all__", [name])
        # A module without a list offers what it defines.
        and ("__all__" in offered or member.__module__ == offered["__name__"])
    }
    assert public == {original.name for original in listed.CLASSES[module]}


@every_class
def test_declared_names_are_those_documented(name):
    arguments, members = DOCUMENTED[name]
    assert list(CLASSES[name].arguments) == names(arguments)
    assert CLASSES[name].members.keys() == members.keys()


@every_class
def test_functional_names_exist(name):
    original = CLASSES[name]
    assert original.target is getattr(CORE[MODULES[name]], original.core or name)
    check_targets(original.target, original.arguments)
    check_targets(original.target, original.members)


@every_class
def test_contrib_has_every_name_with_its_arguments(name):
    arguments, members = DOCUMENTED[name]
    cls = getattr(CONTRIB[MODULES[name]], name)
    if arguments:
        taken = [*inspect.signature(cls).parameters]
        assert taken[: len(names(arguments))] == names(arguments)
    missing = [member for member in members if not hasattr(cls, member)]
    assert not missing
    for member, expected in members.items():
        if expected is None:
            assert isinstance(getattr(cls, member), property)
            continue
        _, *taken = inspect.signature(getattr(cls, member)).parameters
        assert taken[: len(names(expected))] == names(expected), member


def test_losses_have_every_name_in_both_places():
    base = LOSSES["LossFunction"]
    assert base.members.keys() == {*names(library.LOSS)}
    check_targets(base.target, base.members)
    for name, arguments in library.LOSSES.items():
        original = LOSSES[name]
        assert list(original.arguments) == names(arguments)
        check_targets(original.target, original.arguments)
        cls = getattr(loss_functions, name)
        taken = inspect.signature(cls).parameters
        assert [*taken] == names(arguments)
        required = [p.name for p in taken.values() if p.default is p.empty]
        held = cls(*(np.ones((2, 3)) for _ in required))
        # The normal with a variance of its own has no GGN: asking for it raises.
        missing = [
            member
            for member in names(library.LOSS)
            if not hasattr(cls, member) and member not in vars(held)
        ]
        assert not missing


@pytest.mark.parametrize("name", library.CORE_ALONE)
def test_the_rest_of_the_library_is_complete_and_exists(name):
    arguments, members = library.CORE_ALONE[name]
    original = CORE_ALONE[name]
    assert original.arguments.keys() == {*names(arguments)}
    assert original.members.keys() == {*names(members)}
    check_targets(original.target, original.arguments)
    check_targets(original.target, original.members)


def test_every_function_that_registers_is_in_the_tables():
    ours = {
        "register_bias",
        "register_bilinear",
        "register_grouped_convolution",
        "register_grouped_convolution_multi",
        "register_transposed_convolution",
        "register_transposed_convolution_multi",
        "register_tied_weights",
        "register_onehot_categorical_predictive_distribution",
        "register_normal_mean_variance_predictive_distribution",
    }
    registering = {
        name for name in dir(kfac_core.LayerCollection) if name.startswith("register_")
    }
    declared = {name for name in CORE_ALONE if name.startswith("register_")}
    assert registering == declared | {"register_block"} | ours


def test_every_option_of_the_optimiser_that_is_the_originals_is_in_the_tables():
    fields = {each.name for each in dataclasses.fields(kfac_core.KfacOptimizer)}
    ours = {
        "model",
        "num_samples",
        "predicted_change",
        "include_damping_in_qmodel_change",
        "inverse_tolerance",
        "stagger_inverses",
        "weigh_batches",
        "max_damping",
        "structure",
        "statistics_share",
        "estimator",
        "computer",
        "_made_by",
    }
    originals = [CORE_ALONE["KfacOptimizer"], CORE_ALONE["PeriodicInvCovUpdateKfacOpt"]]
    targets = {
        name.core for original in originals for name in original.arguments.values()
    }
    assert fields - ours <= targets


def test_constants_and_helpers_exist():
    assert listed.CONSTANTS.keys() == {*names(library.CONSTANTS)}
    check_targets(kfac_core, listed.CONSTANTS)
    check_targets(kfac_core, listed.HELPERS)


def test_what_has_no_counterpart_has_none():
    absent = [name for group in listed.ABSENT for name in group.names]
    declared = {
        name
        for original in (*listed.CORE_ALONE, *CLASSES.values(), *LOSSES.values())
        for name in (original.name, *original.arguments, *original.members)
    }
    assert len(absent) == len({*absent})
    assert not declared.intersection(absent)
    assert not {*listed.CONSTANTS, *listed.HELPERS}.intersection(absent)
    assert not [name for name in absent if hasattr(kfac_core, name)]


def test_every_name_is_in_the_printed_tables():
    text = listed.everything()
    for original in (*CLASSES.values(), *LOSSES.values(), *CORE_ALONE.values()):
        assert f"**{original.name}**" in text
        for word in (*original.arguments, *original.members):
            assert f"`{word}`" in text
    for group in listed.ABSENT:
        assert all(f"`{name}`" in text for name in group.names)


def test_a_name_that_does_not_exist_is_noticed():
    for owner, name in (
        (kfac_core.KfacOptimizer, "no_such_option"),
        (kfac_core.KfacOptimizer, "KfacState.no_such_field"),
    ):
        with pytest.raises(AttributeError):
            tables.resolve(owner, name)
    for owner, name in (
        (kfac_core.KfacOptimizer, "step(no_such_argument)"),
        (kfac_core.LayerCollection.register_conv2d, "no_such_argument"),
    ):
        with pytest.raises(KeyError):
            tables.resolve(owner, name)
