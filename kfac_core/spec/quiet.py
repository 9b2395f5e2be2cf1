"""Methods in which a library does not warn of overflow: an error reports it."""

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, ClassVar

from kfac_core.backend import Backend
from kfac_core.errors import BackendError
from kfac_core.registry import BACKEND_OF_TYPE, backend_of
from kfac_core.spec.given_states import OF_BARE_STATES, OF_SPOILED_STATES, explain


class Quiet:
    """Base of classes whose public methods do not let their library warn.

    NumPy warns of every overflow. Where warnings are errors, the warning would come
    before the error that names the layer. A method checks its results itself, and also
    what a model gives to it. Every method with a public name is wrapped when its class
    is made.
    """

    calls_a_model: ClassVar[bool] = True
    """Whether methods may call functions of the user, with arrays as the user has."""

    not_known_yet: ClassVar[tuple[str, ...]] = ()
    """Names of the fields of a state that are NaN until they are known."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the public methods of the class."""
        super().__init_subclass__(**kwargs)
        for name, member in list(vars(cls).items()):
            is_verb = not name.startswith(("_", "register_"))
            if is_verb and isinstance(member, FunctionType):
                setattr(cls, name, _quietly(member, calls_a_model=cls.calls_a_model))


def _quietly(verb: Callable[..., Any], *, calls_a_model: bool) -> Callable[..., Any]:
    """Return a method that computes without warnings."""

    @wraps(verb)
    def quiet_verb(self: Any, *args: Any, **kwargs: Any) -> Any:
        first: Any = args
        while isinstance(first, tuple) and first:
            first = first[0]  # states and data start with an array
            if type(first) is dict:
                first = (*first.values(),)
        backend = BACKEND_OF_TYPE.get(type(first)) or _backend_of(args, kwargs)
        context = None if backend is None else backend.quiet()
        try:
            # Most libraries have no context to enter, nor has a call within another.
            if context is None:
                if calls_a_model or backend is None or backend.call is None:
                    return verb(self, *args, **kwargs)
                return backend.call(verb, self, *args, **kwargs)
            with context:
                return verb(self, *args, **kwargs)
        except (*OF_BARE_STATES, *OF_SPOILED_STATES) as error:
            explain(self, (*args, *kwargs.values()), error)
            raise

    return quiet_verb


def _backend_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Backend | None:
    """Return the backend of the arguments' first array; None if there is none."""
    array = _first_array((args, kwargs))
    try:
        return None if array is None else backend_of(array)
    except BackendError:  # the verb says more of it
        return None


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
    # A tensor without a shape yet raises where it is read, and not where it is defined.
    has_shape = hasattr(type(tree), "shape") or hasattr(tree, "shape")
    return tree if has_shape and hasattr(tree, "dtype") else None
