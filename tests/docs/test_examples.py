"""The examples in docstrings run, and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import kfac_core

MODULES = [
    module.name
    for module in pkgutil.walk_packages(kfac_core.__path__, "kfac_core.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["kfac_core", *MODULES])
def test_examples_of_module(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module)
    assert failed == 0


def test_there_are_examples() -> None:
    modules = [importlib.import_module(name) for name in MODULES]
    tried = sum(doctest.testmod(module).attempted for module in modules)
    assert tried > 50
