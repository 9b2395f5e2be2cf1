"""Every exported class shows an example; `test_docstrings` runs it."""

import importlib
import inspect

from test_docstrings import modules


def without_example():
    """Return the exported classes whose docstring has no example."""
    found = set()
    for name in modules():
        module = importlib.import_module(name)
        for each in getattr(module, "__all__", ()):
            thing = getattr(module, each)
            ours = inspect.isclass(thing) and thing.__module__.startswith("kfac_core.")
            if ours and ">>>" not in (thing.__doc__ or ""):
                found.add(f"{thing.__module__}.{each}")
    return found


def test_every_class_has_an_example():
    assert without_example() == set()
