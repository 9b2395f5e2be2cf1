"""Every example in a docstring runs, and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import kfac_backends
import kfac_core

OPTIONAL = ("cupy", "jax", "mlx", "mparray", "ndonnx", "torch")


def modules():
    """Return the names of all modules that need no library but NumPy."""
    found = [
        module.name
        for package in (kfac_core, kfac_backends)
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    ]
    return [
        name
        for name in ("kfac_core", *found)
        if not any(part in name for part in OPTIONAL) and "__main__" not in name
    ]


def examples_of(name):
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        each for each in finder.find(importlib.import_module(name)) if each.examples
    ]


def test_there_are_examples():
    assert sum(len(examples_of(name)) for name in modules()) >= 100


@pytest.mark.parametrize("name", modules())
def test_examples_print_what_they_say(name):
    runner = doctest.DocTestRunner(verbose=False)
    for each in examples_of(name):
        printed = []
        runner.run(each, out=printed.append)
        assert not printed, "".join(printed)


def test_an_example_that_prints_another_thing_is_told_of():
    parser, printed = doctest.DocTestParser(), []
    wrong = parser.get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    doctest.DocTestRunner(verbose=False).run(wrong, out=printed.append)
    assert "Got:\n    2" in "".join(printed)
