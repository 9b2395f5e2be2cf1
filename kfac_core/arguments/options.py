"""Checks of the options of a spec: names, words, numbers and sizes.

A field's type or name tells how to check it, in the same way for all specs: a field of
the type ``Literal[...]`` must be one of these words.
"""

from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from kfac_core.arguments.powers import as_exponent, shown
from kfac_core.arguments.sizes import check_sizes
from kfac_core.errors import ArgumentError

TEXTS = ("name", "data_name")
"""Fields that are strings, in any spec."""

NUMBERS = ("normalize_damping_power",)
"""Fields that are a finite number."""

NAMED_ELSEWHERE = ("layout",)
"""Fields of words that have a check of their own, with a better message."""


def check_options(spec: Any) -> None:
    """Check the options of a frozen spec, before anything is computed from them.

    Args:
        spec: A dataclass with a ``label``.

    Raises:
        ArgumentError: If a name is not a string, an option is not one of its words, a
            number is not finite, a size is not a positive integer, or a flag is not a
            boolean.
    """
    cls: Any = type(spec)
    texts, numbers, words = _options_of(cls)
    for option in texts:
        value = getattr(spec, option)
        if not isinstance(value, str):
            label = type(spec).__name__ if option == "name" else spec.label
            msg = f"{label}: {option} is {shown(value)}, expected text"
            raise ArgumentError(msg)
    for option in numbers:
        number = as_exponent(getattr(spec, option), spec.label, option)
        object.__setattr__(spec, option, number)
    for option, allowed in words:
        check_word(getattr(spec, option), allowed, option, spec.label)
    check_sizes(spec)


def check_word(
    value: object, allowed: tuple[str | None, ...], option: str, label: str
) -> None:
    """Check the name of an option.

    Raises:
        ArgumentError: If the name is not allowed.
    """
    # Arrays compare entry by entry, and string types of other libraries do not count.
    known = value is None or isinstance(value, str)
    if not known or value not in allowed:
        *others, last = map(repr, allowed)
        wanted = f"{', '.join(others)} or {last}" if others else last
        msg = f"{label}: {option} is {shown(value)}, expected {wanted}"
        raise ArgumentError(msg)


@cache
def _options_of(
    cls: Any,
) -> tuple[
    tuple[str, ...], tuple[str, ...], tuple[tuple[str, tuple[str | None, ...]], ...]
]:
    """Return the fields that are strings, numbers, and words with allowed values."""
    given = [each for each in fields(cls) if each.init]
    names = [each.name for each in given]
    words = tuple(
        (each.name, allowed)
        for each in given
        if each.name not in NAMED_ELSEWHERE
        and (allowed := _words_of(each.type)) is not None
    )
    return (
        tuple(name for name in TEXTS if name in names),
        tuple(name for name in NUMBERS if name in names),
        words,
    )


def _words_of(annotation: Any) -> tuple[str | None, ...] | None:
    """Return the words of a ``Literal``, optional or not; None for other types."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in {UnionType, Union}:
        parts = get_args(annotation)
        literal = [part for part in parts if get_origin(part) is Literal]
        if len(literal) == 1 and set(parts) - set(literal) == {NoneType}:
            return (*get_args(literal[0]), None)
    return None
