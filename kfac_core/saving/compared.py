"""Whether a spec is one that shares its state with the spec of a file.

A file has all fields that a spec had when it was saved. What fields a class has gained
since were at their defaults then, as far as a state depends on them: an option that is
added has the default at which all is as before.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from kfac_core.errors import StateError
from kfac_core.saving.described import described

ANOTHER_VERSION = "another version of kfac_core wrote it: load it with that one"
"""What to do with a file of a spec whose class was another."""


def check_same(found: Any, spec: Any, label: str) -> None:
    """Check that a spec is one that shares its state with a saved one.

    Args:
        found: The description of the saved spec; a field that it lacks, since the class
            has gained it, is at its default.
        spec: The spec at hand.
        label: Name of the function that was called, for the message.

    Raises:
        StateError: If a field differs that a state depends on, if the class has lost
            it, or if it has gained one that has no default.

    Example:
        >>> from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
        >>> factor = FullyConnectedKroneckerFactor(3)
        >>> earlier = described(factor)
        >>> del earlier["fields"]["zero_debias"]
        >>> check_same(earlier, factor, "load")
    """
    _check(found, described(spec), spec, "", label)


def _check(found: Any, expected: Any, value: Any, path: str, label: str) -> None:
    """Check a part of a description; `value` is what `expected` describes."""
    if all(isinstance(x, dict) and "class" in x for x in (found, expected)):
        _check_value(found["class"], expected["class"], f"{path}: its class", label)
        _check_fields(found, expected, value, path, label)
    elif all(isinstance(x, list) for x in (found, expected)) and (
        len(found) == len(expected)
    ):
        values = value if isinstance(value, tuple | list) else [None] * len(expected)
        parts = zip(found, expected, values, strict=True)
        for place, (old, new, own) in enumerate(parts):
            _check(old, new, own, f"{path}[{place}]", label)
    else:
        _check_value(found, expected, path, label)


def _check_fields(
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    value: Any,
    path: str,
    label: str,
) -> None:
    """Check the fields of two descriptions of one class.

    Raises:
        StateError: If one differs, or if there is none to compare it with.
    """
    # Whether a state depends on a field is for this version to say.
    saved = {**found["free"], **found["fields"]}
    defaults = _defaults_of(value)
    for name, new in expected["fields"].items():
        where = f"{path}.{name}" if path else name
        if name in saved:
            _check(saved[name], new, getattr(value, name, None), where, label)
        elif name in defaults:
            hint = ", the default of a field that the file does not have yet"
            _check_value(defaults[name], new, where, label, hint)
        else:
            msg = (
                f"{label}: the file does not say what {where} is, which has no default:"
                f" {ANOTHER_VERSION}"
            )
            raise StateError(msg)
    known = {**expected["free"], **expected["fields"]}
    for name, old in found["fields"].items():
        if name not in known:
            where = f"{path}.{name}" if path else name
            msg = (
                f"{label}: in the file {where} is {_shown(old)}, and"
                f" {expected['class']} has no such field: {ANOTHER_VERSION}"
            )
            raise StateError(msg)


def _defaults_of(value: Any) -> dict[str, Any]:
    """Return the descriptions of the defaults of a value's fields, by name."""
    if not is_dataclass(value):
        return {}
    return {
        f.name: described(f.default)
        for f in fields(value)
        if f.default is not MISSING and f.init
    }


def _check_value(
    found: Any, expected: Any, path: str, label: str, hint: str = ""
) -> None:
    """Check that what a file says is what the spec at hand has.

    Raises:
        StateError: If it is not.
    """
    if type(found) is not type(expected) or found != expected:
        msg = (
            f"{label}: the state was saved with another spec: {path or 'the spec'} is"
            f" {_shown(expected)}, and was {_shown(found)}{hint}; load it with the spec"
            " that it was saved with, and bring it to another by init_inverses"
        )
        raise StateError(msg)


def _shown(description: Any) -> str:
    if isinstance(description, dict) and "class" in description:
        return f"a {description['class']}"
    if isinstance(description, dict) and "member" in description:
        return str(description["member"])
    return repr(description)
