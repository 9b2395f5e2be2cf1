"""The doors of `kfac_core`, and old names, which say where they went."""

import importlib

import pytest

import kfac_core as kc

DOORS = {
    "blocks": "fisher_blocks",
    "factors": "fisher_factors",
    "losses": "loss_functions",
    "errors": "errors",
}


def test_completion_shows_what_one_starts_from():
    assert dir(kc) == sorted(kc.__all__)
    assert len(kc.__all__) <= 30


@pytest.mark.parametrize("door", DOORS)
def test_a_door_is_the_package_of_its_kind(door):
    module = importlib.import_module(f"kfac_core.{DOORS[door]}")
    assert getattr(kc, door) is module
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize(
    ("name", "door"),
    [
        ("FullyConnectedKFACBasicFB", "blocks"),
        ("FactorState", "factors"),
        ("CategoricalLogitsNegativeLogProbLoss", "losses"),
        ("ShapeError", "errors"),
        ("LinearOperator", "linalg"),
        ("LayerRegistration", "layer_collection"),
    ],
)
def test_a_flat_name_works_and_says_where_it_went(name, door):
    with pytest.warns(DeprecationWarning, match=rf"{name} is now kfac_core\.{door}\."):
        found = getattr(kc, name)
    module = importlib.import_module("kfac_core." + DOORS.get(door, door))
    assert found is getattr(module, name)


@pytest.mark.parametrize(
    ("door", "name", "now"),
    [
        ("blocks", "FullFB", "NaiveFullFB"),
        ("factors", "FullFactor", "NaiveFullFactor"),
        ("factors", "InverseProvidingFactor", "DenseSquareMatrixFactor"),
    ],
)
def test_a_name_of_older_releases_says_that_contrib_has_it(door, name, now):
    contrib = importlib.import_module(f"kfac_core.contrib.{DOORS[door]}")
    assert hasattr(contrib, name)
    with pytest.raises(AttributeError, match=rf"{DOORS[door]}\.{name}; .* {now}"):
        getattr(getattr(kc, door), name)


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no_such_name"):
        kc.no_such_name  # noqa: B018


def test_the_name_of_a_flat_import_is_warned_of_where_it_stands():
    with pytest.warns(DeprecationWarning, match="kfac_core.errors") as caught:
        exec("from kfac_core import ShapeError", {})
    assert caught[0].filename == "<string>"
