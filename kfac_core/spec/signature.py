"""The signature by which a state tells which spec made it: a type of empty tuples.

A state is a tree of arrays. What it serves is not an array, but must be kept with the
state: otherwise the state of one spec could be read as the state of another. A named
tuple without fields holds nothing, and its type is a part of the tree's structure
without any registration. JAX and PyTorch compare the type, trace anew for another type,
and refuse to choose between trees of two types; copies and pickles keep it. Comparing
two types costs nothing.
"""

from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from threading import Lock
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from kfac_core.errors import StateError
from kfac_core.state_classes import pickled_by, signature_class

Signature: TypeAlias = tuple[()]
"""A tuple without entries, of a type of its own for each kind of spec."""

UNSIGNED: Signature = ()
"""What no spec made."""

_SEPARATOR = " | "
# A type is pickled and found by its name, in which a dot would mean a member.
_ESCAPES = {"%": "%25", "|": "%7C", "·": "%B7", ".": "·"}

_TABLE = str.maketrans(_ESCAPES)

_lock = Lock()
_types: WeakValueDictionary[tuple[str, str], type] = WeakValueDictionary()


@pickled_by
def signature_for(kind: str, served: str) -> Signature:
    """Return the signature of all specs of a kind that serve the same.

    Args:
        kind: What the statistics of a state are.
        served: What is computed from them.

    Returns:
        A tuple without entries; its type is the same for the same arguments.

    Example:
        >>> type(signature_for("rows", "a")) is type(signature_for("rows", "a"))
        True
        >>> type(signature_for("rows", "a")) is type(signature_for("rows", "b"))
        False
    """
    found: Signature = _type_of(kind, served)()
    return found


def kind_of(made_by: Any) -> str | None:
    """Return what the statistics of a state are; None if no spec made it."""
    kind: str | None = getattr(made_by, "kind", None)
    return kind


def served_of(made_by: Any) -> str | None:
    """Return what is computed from a state's statistics; None if no spec made it."""
    served: str | None = getattr(made_by, "served", None)
    return served


def check_made_by(state: Any, made_by: Signature, label: str) -> None:
    """Check that a state was made by a spec of some kind that serves some things.

    Args:
        state: The state.
        made_by: The signature of the spec.
        label: Name of the layer or factor, for the message.

    Raises:
        StateError: If it was made by another spec.
    """
    if type(getattr(state, "made_by", None)) is not type(made_by):
        raise StateError(_mismatch(state, made_by, label))


def check_kind(state: Any, made_by: Signature, label: str) -> None:
    """Check as `check_made_by` does, but allow a state that serves other things.

    Raises:
        StateError: If the state is of another kind.
    """
    if kind_of(getattr(state, "made_by", None)) != kind_of(made_by):
        raise StateError(_mismatch(state, made_by, label))


def _mismatch(state: Any, made_by: Signature, label: str) -> str:
    """Return an error that says what made a state, and what to do."""
    wanted, found = kind_of(made_by), kind_of(getattr(state, "made_by", None))
    if isinstance(state, (dict, list)):
        return f"{label}: {restored_bare(state)}"
    if found is None:
        return (
            f"{label}: state is a {type(state).__name__} that no spec made, expected"
            f" one of {wanted}: use the state that init returned"
        )
    if found != wanted:
        return (
            f"{label}: the state is one of {found}, expected one of {wanted}; it was"
            " made by another spec: use init of this one"
        )
    return (
        f"{label}: the state serves {served_of(state.made_by) or 'nothing'}, expected"
        f" {served_of(made_by) or 'nothing'}; it was made by a spec that serves"
        " something else: use init_inverses of this one"
    )


def restored_bare(state: object) -> str:
    """Return what is wrong with a state of dictionaries, and what to do."""
    return (
        f"the state is a {type(state).__name__}, restored without its classes: give it"
        " to kfac_core.from_tree, with a state that init returned"
    )


def options_of(spec: Any, names: frozenset[str]) -> str:
    """Return fields of a dataclass as ``name=value``; equal fields give equal text.

    Fields at their defaults are left out.

    Example:
        >>> from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
        >>> factor = FullyConnectedKroneckerFactor(3, name="fc1")
        >>> options_of(factor, frozenset({"name", "size", "has_bias"}))
        "name='fc1', size=3"
    """
    found = []
    cls: Any = type(spec)
    for name, default in _defaults(cls, names):
        value = getattr(spec, name)
        if not _is_default(value, default):
            found.append(f"{name}={_canonical(value)}")
    return ", ".join(found)


@cache
def _defaults(cls: Any, names: frozenset[str]) -> tuple[tuple[str, Any], ...]:
    return tuple((f.name, f.default) for f in fields(cls) if f.name in names)


def _is_default(value: Any, default: Any) -> bool:
    # Arrays, which may stand here before they are refused, do not compare to a boolean;
    # no default is one.
    return value is default or (type(value) is type(default) and bool(value == default))


def _canonical(value: Any) -> str:
    """Return equal strings for equal numbers, tuples and strings, and no others."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_canonical, value))})"
    if isinstance(value, bool) or not isinstance(value, Real):
        # What is itself made of fields says what of them statistics depend on.
        kind = getattr(value, "kind", None)
        return kind if isinstance(kind, str) else repr(value)
    if not isinstance(value, Integral):
        number = float(value)
        if not number.is_integer():
            return repr(number)
    whole = int(value)  # type: ignore[call-overload]
    # Python refuses to write integers of more than some thousand decimal digits.
    return repr(whole) if whole.bit_length() <= 64 else hex(whole)


def _escaped(part: str) -> str:
    return part.translate(_TABLE)


def _restored(part: str) -> str:
    for character, escape in reversed(_ESCAPES.items()):
        part = part.replace(escape, character)
    return part


def _type_of(kind: str, served: str) -> type:
    """Return the type for these words, made at their first use."""
    with _lock:  # two types of one name would be two kinds
        made = _types.get((kind, served))
        if made is None:
            name = _escaped(kind) + _SEPARATOR + _escaped(served)
            members = {**_MEMBERS, "kind": kind, "served": served}
            made = _types[kind, served] = type(name, (tuple,), members)
            signature_class(made)
        return made


def _repr(self: Any) -> str:
    return f"Signature(kind={self.kind!r}, served={self.served!r})"


def _new(cls: Any, *entries: Any) -> Any:
    return tuple.__new__(cls, entries)


# These are what `collections.namedtuple` gives, made in a fifth of the time.
_MEMBERS: dict[str, Any] = {
    "__slots__": (),
    "__module__": __name__,
    "__new__": _new,
    "__repr__": _repr,
    # By a function, which a library can know before there is the type.
    "__reduce__": lambda self: (signature_for, (self.kind, self.served)),
    "_fields": (),
    "_field_defaults": {},
    "_make": classmethod(lambda cls, entries: tuple.__new__(cls, entries)),
    "_replace": lambda self: self,
    "_asdict": lambda self: {},
}


def __getattr__(name: str) -> type:
    """Return the type of a name, so that pickles find it in any process."""
    if name.count(_SEPARATOR) != 1:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    kind, served = map(_restored, name.split(_SEPARATOR))
    return _type_of(kind, served)
