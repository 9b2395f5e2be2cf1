"""Checks of the sizes and flags of a spec.

Sizes are positive integers. NumPy's numbers are stored as Python's, so that equal specs
compare equal and have equal hashes. A boolean is not a number here, and a number is not
a flag.
"""

from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral
from typing import Any

import numpy as np

from kfac_core.arguments.powers import shown
from kfac_core.errors import ArgumentError

SIZES = (
    "size",
    "input_size",
    "output_size",
    "first_size",
    "second_size",
    "vocab_size",
    "num_groups",
    "num_blocks",
    "input_blocks",
    "output_blocks",
    "num_uses",
    "max_rows",
    "input_max_rows",
    "output_max_rows",
    "max_patches",
    "multiplier",
)
"""Fields that are a number of things, in any spec, or None if their type allows it.

If a layer has a bias, the size of its other rows may be zero.
"""

SHAPES = ("filter_shape", "shape")
"""Fields that are a shape."""


def as_size(value: object, argument: str, layer: str, *, optional: bool = False) -> int:
    """Return a number of things, at least one.

    Args:
        value: What the user gave.
        argument: Name of the value, for the message.
        layer: Name of the layer or factor, for the message.
        optional: Whether None is allowed, for the message.

    Returns:
        The number.

    Raises:
        ArgumentError: If the value is not a positive integer.

    Example:
        >>> import numpy as np
        >>> as_size(np.int64(3), "input_size", "layer")
        3
    """
    if not _is_size(value):
        wanted = "None or a positive integer" if optional else "a positive integer"
        msg = f"{layer}: {argument} is {shown(value)}, expected {wanted}"
        raise ArgumentError(msg)
    return int(value)  # type: ignore[call-overload, no-any-return]


def as_shape(value: object, argument: str, layer: str) -> tuple[int, ...]:
    """Return a shape, whose sizes are at least one.

    Raises:
        ArgumentError: If the value is not a sequence of positive integers.
    """
    if not _is_list(value) or not all(map(_is_size, value)):  # type: ignore[call-overload]
        msg = (
            f"{layer}: {argument} is {shown(value)}, expected a tuple of positive"
            " integers"
        )
        raise ArgumentError(msg)
    return tuple(map(int, value))  # type: ignore[call-overload]


def as_free_shape(value: object, argument: str, layer: str) -> tuple[int | None, ...]:
    """Return a shape in which None stands for an axis of any size.

    Raises:
        ArgumentError: If an entry is neither a positive integer nor None.
    """
    if not _is_list(value) or not all(
        size is None or _is_size(size)
        for size in value  # type: ignore[attr-defined]
    ):
        msg = (
            f"{layer}: {argument} is {shown(value)}, expected a tuple of positive"
            " integers, or None for an axis of any size"
        )
        raise ArgumentError(msg)
    return tuple(None if size is None else int(size) for size in value)  # type: ignore[attr-defined]


def check_sizes(spec: Any) -> None:
    """Check the sizes of a frozen spec, found by name, and its flags, found by type.

    Args:
        spec: A dataclass with a ``label``, before anything is computed from its sizes.

    Raises:
        ArgumentError: If a size is not a positive integer, or a flag not a boolean.
    """
    for each in fields(spec):
        name = each.name
        if name in SHAPES:
            value: Any = as_shape(getattr(spec, name), name, spec.label)
        elif name in SIZES:
            value = getattr(spec, name)
            optional = each.type is not int
            if value is None and optional:
                continue
            # Each row holds nothing but the one for the bias.
            is_empty = isinstance(value, Integral) and int(value) == 0
            alone = name == "size" and getattr(spec, "has_bias", False) is True
            if not (is_empty and alone) or isinstance(value, bool):
                value = as_size(value, name, spec.label, optional=optional)
        elif each.type is bool:
            value = as_flag(getattr(spec, name), name, spec.label)
        else:
            continue
        object.__setattr__(spec, name, value)


def as_flag(value: object, argument: str, layer: str) -> bool:
    """Return a flag.

    Raises:
        ArgumentError: If the value is neither True nor False.
    """
    if not isinstance(value, bool | np.bool_):
        msg = f"{layer}: {argument} is {shown(value)}, expected True or False"
        raise ArgumentError(msg)
    return bool(value)


def _is_size(value: object) -> bool:
    # A boolean is an integer in Python, but it is meant as a flag.
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return 1 <= int(value) < 2**63


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
