"""The pages of classes: a table names each that is exported, and each field is told."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "fisher_blocks": "kfac_core.fisher_blocks",
    "fisher_factors": "kfac_core.fisher_factors",
    "loss_functions": "kfac_core.loss_functions",
    "layer_collection": "kfac_core.layer_collection",
    "linearization": "kfac_core.linearization",
    "estimator": "kfac_core.estimator",
    "optimizer": "kfac_core.optimizer",
    "spectral": "kfac_core.spectral",
    "presets": "kfac_core.presets",
    "saving": "kfac_core.saving",
    "reference": "kfac_core.reference",
    "testing": "kfac_core.testing",
    "theorems": "kfac_core.theorems",
}
SHOWN = (*PAGES.values(), "kfac_core.products", "kfac_core.errors", "kfac_core.verify")

ALL = (*SHOWN, "kfac_core.contrib.fisher_blocks", "kfac_core.contrib.fisher_factors")

every_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(scope="module")
def classes():
    sys.path.insert(0, str(DOCS / "extensions"))
    import classes

    sys.path.pop(0)
    return classes


def offered(module):
    """Return the names of the classes and functions that a module exports."""
    found = importlib.import_module(module)
    return {
        name
        for name in getattr(found, "__all__", vars(found))
        for part in [getattr(found, name)]
        if (inspect.isclass(part) or inspect.isfunction(part))
        and part.__module__.startswith("kfac")
        and not name.startswith("_")
    }


def tabled(page):
    """Return the names in the tables at the top of a page, in their order."""
    text = (DOCS / "api" / f"{page}.md").read_text("utf-8")
    tables = re.findall(
        r"\.\. autosummary::\n   :nosignatures:\n\n((?:   \S+\n)+)", text
    )
    return " ".join(tables).split()


@every_page
def test_a_table_names_what_is_exported(page):
    names = tabled(page)
    assert len(names) == len({*names})
    assert offered(PAGES[page]) == {*names}


@pytest.mark.parametrize("module", SHOWN)
def test_every_field_of_a_class_is_described(classes, module):
    silent = []
    for name in offered(module):
        cls = getattr(importlib.import_module(module), name)
        if not inspect.isclass(cls) or not cls.__module__.startswith("kfac"):
            continue
        text = inspect.cleandoc(cls.__doc__ or "")
        own = {field for field, _ in classes.entries(text.splitlines())}
        silent += [
            f"{name}.{field}"
            for field in classes.fields_of(cls)
            if field not in own and not classes.described_by_bases(cls, field)
        ]
    assert not silent


def test_a_page_shows_the_fields_of_the_bases(classes):
    from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB as Block

    lines = inspect.getdoc(Block).splitlines()
    classes.merge_fields(None, "class", Block.__name__, Block, None, lines)
    described = [name for name, _ in classes.entries(lines)]

    assert {*described} == {*classes.fields_of(Block)}
    assert len(described) == len({*described}) >= 20
    assert described[0] == "input_size"
    assert "Example:" in lines


def test_a_page_lists_the_inherited_verbs(classes):
    from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB as Block

    verbs = {name for name, _, _ in classes.inherited(Block)}
    assert {"multiply_inverse", "update_inverses", "register_matpower"} <= verbs
    assert "update_covs" not in verbs


@pytest.mark.parametrize("module", ALL)
def test_a_colon_in_a_property_makes_no_type(classes, module):
    from types import SimpleNamespace

    from sphinx.ext import napoleon

    app = SimpleNamespace(config=napoleon.Config(napoleon_use_ivar=True))
    garbled = []
    for name in offered(module):
        cls = getattr(importlib.import_module(module), name)
        for key, member in (vars(cls) if inspect.isclass(cls) else {}).items():
            lines = (inspect.getdoc(member) or "").splitlines()
            if isinstance(member, property) and lines and not key.startswith("_"):
                first, arguments = lines[0], ("property", key, member, None, lines)
                classes.read_property(app, *arguments)
                napoleon._process_docstring(app, *arguments)
                classes.keep_property(app, *arguments)
                garbled += [key] if lines[0] != first or ":type:" in lines else []
    assert garbled == []


def test_values_of_attributes_are_written_as_defaults_are(classes):
    """Of each attribute of a class, and of each constant, whose page shows a value."""
    from sphinx.util.inspect import object_description

    shown = set()
    for name in ALL:
        module = importlib.import_module(name)
        for each in getattr(module, "__all__", ()):
            part = getattr(module, each)
            values = vars(part) if inspect.isclass(part) else {each: part}
            shown |= {
                classes.readable(object_description(value))
                for key, value in values.items()
                if not key.startswith("_") and not callable(value)
            }
    unreadable = [text for text in shown if re.search(r"<(function|class) ", text)]
    assert len(shown) > 20
    assert unreadable == []


def test_a_page_shows_no_repr_and_no_long_value(classes):
    from docutils import nodes
    from docutils.utils import new_document
    from sphinx import addnodes

    page = new_document("page")
    for value in ("(<function tell>, <class 'a.Dense'>)", "x" * 121):
        equals = addnodes.desc_sig_punctuation("", "=")
        space = addnodes.desc_sig_space
        own = addnodes.desc_annotation(
            value, "", space(), equals, space(), nodes.Text(value)
        )
        page += addnodes.desc_signature("", "", own)
    classes.ShortenValues(page).apply()
    assert page.astext().split("\n\n") == [" = (tell, Dense)", " = ..."]


def test_signatures_have_names_in_place_of_addresses(classes):
    shown = "(form=<class 'a.b.Dense'>, f=<function tell at 0x7f00>, x=<factory>)"
    written, _ = classes.shorten(None, "class", "x", None, None, shown, None)
    assert written == "(form=Dense, f=tell, x=...)"
