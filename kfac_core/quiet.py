"""Verbs under which a library does not warn of what overflows: an error tells of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from types import FunctionType
from typing import Any

from kfac_core.errors import BackendError
from kfac_core.registry import backend_of

_NOTHING: AbstractContextManager[object] = nullcontext()


class Quiet:
    """Base of the specs: their public verbs do not let their library warn.

    NumPy warns of every overflow, which is an exception where warnings are errors, and
    then comes before the error that names the layer. What a verb computes it checks
    itself. Each method with a public name is wrapped where its class is made.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the verbs of the class."""
        super().__init_subclass__(**kwargs)
        for name, member in list(vars(cls).items()):
            is_verb = not name.startswith(("_", "register_"))
            if is_verb and isinstance(member, FunctionType):
                setattr(cls, name, _quietly(member))


def _quietly(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return the verb, computing without warnings."""

    @wraps(verb)
    def quiet_verb(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _quiet_for(args or tuple(kwargs.values())):
            return verb(self, *args, **kwargs)

    return quiet_verb


def _quiet_for(arguments: tuple[Any, ...]) -> AbstractContextManager[object]:
    """Return a context of the library of the first array; of none, nothing."""
    array = _first_array(arguments)
    if array is None:
        return _NOTHING
    try:
        return backend_of(array).quiet()
    except BackendError:  # the verb says more of it
        return _NOTHING


def _first_array(tree: Any) -> Any:
    """Return the first array of nested tuples and dictionaries; None without one."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple):
        for part in tree:
            found = _first_array(part)
            if found is not None:
                return found
        return None
    return tree if hasattr(tree, "dtype") and hasattr(tree, "shape") else None
