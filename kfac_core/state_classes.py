"""The classes of states, known to whoever stores trees of arrays.

A library may want to hear of a class of named tuples before it writes or reads one: for
the default of `torch.load`, for `jax.export` and `torch.export`. Its backend listens.
"""

from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_lock = RLock()
_known: list[Any] = []
_signatures: WeakSet[Any] = WeakSet()
_listeners: list[Callable[[Any, str], None]] = []


def state_class(cls: type[T]) -> type[T]:
    """Make a class of named tuples known: a decorator.

    Args:
        cls: The class; its fields are arrays, or tuples and dictionaries of these.

    Returns:
        The class itself.
    """
    with _lock:
        _known.append(cls)
        _tell(cls)
    return cls


def pickled_by(function: T) -> T:
    """Make a function known that pickles of states call: a decorator."""
    with _lock:
        _known.append(function)
        _tell(function)
    return function


def signature_class(cls: type) -> None:
    """Make the type of a signature known, as long as there is one."""
    with _lock:
        _signatures.add(cls)
        _tell(cls)


def state_classes() -> tuple[type, ...]:
    """Return all classes of named tuples that states are made of.

    The signatures of specs are not among them: each is a type of its own, which is
    pickled by a function.

    Example:
        >>> import kfac_core as kc
        >>> kc.KfacState in kc.state_classes()
        True
    """
    # Without the lock, which compilers cannot take: the list only grows.
    return tuple(each for each in _known if isinstance(each, type))


def listen(listener: Callable[[Any, str], None]) -> None:
    """Tell a function of all that trees of states are made of, what comes included.

    Args:
        listener: It takes a class of named tuples, or a function that pickles call; and
            the name to store it by.
    """
    with _lock:
        _listeners.append(listener)
        for each in (*_known, *_signatures):
            listener(each, _name(each))


def _tell(part: Any) -> None:
    for listener in _listeners:
        listener(part, _name(part))


def _name(part: Any) -> str:
    return f"{part.__module__}.{part.__qualname__}"


def bare_part(state: Any) -> str | None:
    """Return the name of a part of a state that lost its class; None if none did.

    Formats that know no named tuples return dictionaries of their fields, and lists.

    Example:
        >>> from kfac_core.moving_average import MovingAverage
        >>> bare_part((MovingAverage(1.0, 2.0),))
        >>> bare_part((1.0, MovingAverage(1.0, 2.0)._asdict()))
        '1'
    """
    known = [{*cls._fields} - {"made_by"} for cls in state_classes()]  # type: ignore[attr-defined]

    def look(part: Any, name: str) -> str | None:
        is_fields = isinstance(part, dict) and {*part} - {"made_by"} in known
        if is_fields or isinstance(part, list):
            return name
        if isinstance(part, dict):
            inner = [*part.items()]
        elif isinstance(part, tuple):
            keys = getattr(part, "_fields", range(len(part)))
            inner = [*zip(keys, part, strict=True)]
        else:
            return None
        for key, each in inner:
            found = look(each, f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None

    return look(state, "")
