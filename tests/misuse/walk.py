"""The walk: a right call is made again with each argument as it cannot be.

Each such call ends in a `KfacError` that names the layer and the argument, and changes
nothing. What a table allows must be computed, and be finite.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from bad_values import Faults

import kfac_core as kc

COLUMNS = ("verb", "argument", "fault", "outcome")


@dataclass(frozen=True)
class Call:
    """A right call, and what each of its arguments cannot be.

    Attributes:
        verb: Its name in the table, such as ``FullFactor.update_cov``.
        function: What is called, with the arguments by name.
        arguments: The right ones.
        faults: Of each argument that is walked, the values that it cannot be.
        allowed: Of an argument, the names of faults that are none here.
        label: What errors name beside the argument: the layer, or one of several words.
        words: Of an argument, other words that an error may call it by.
    """

    verb: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    faults: Mapping[str, Faults]
    allowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label: str | tuple[str, ...] = ""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        verb: str,
        function: Callable[..., Any],
        names: Iterable[str],
        right: Mapping[str, Any],
        faults: Mapping[str, Faults],
        allowed: Mapping[str, tuple[str, ...]],
        **said: Any,
    ) -> "Call":
        """Return the call with arguments of these names, from tables of more."""
        tables = (right, faults, allowed)
        own = [{name: t[name] for name in names if name in t} for t in tables]
        return cls(verb, function, *own, **said)

    def allowing(self, argument: str, *faults: str) -> "Call":
        """Return the call with further faults allowed."""
        allowed = (*self.allowed.get(argument, ()), *faults)
        return replace(self, allowed={**self.allowed, argument: allowed})

    def labelled(self, *labels: str) -> "Call":
        """Return the call whose errors name one of these."""
        return replace(self, label=labels)


def walk(call: Call) -> list[tuple[str, ...]]:
    """Make the call in all its wrong ways; return a row of `COLUMNS` for each.

    Raises:
        AssertionError: If one of them is answered as it must not be; all are listed.
    """
    call.function(**call.arguments)  # it is right
    rows, failures = [], []
    for argument, faults in call.faults.items():
        unknown = set(call.allowed.get(argument, ())) - faults.keys()
        assert not unknown, f"{argument} has no fault named {unknown}"
        for fault, value in faults.items():
            outcome, failure = _tried(call, argument, fault, value)
            rows.append((call.verb, argument, fault, outcome))
            if failure:
                failures.append(f"{argument} = {fault}: {failure}")
    assert not failures, "\n".join([f"{call.verb}:", *failures])
    return rows


def _tried(call: Call, argument: str, fault: str, value: Any) -> tuple[str, str]:
    """Return how one wrong call ended, and what was wrong with that, if anything."""
    arguments = {**call.arguments, argument: value}
    before = _snapshot(arguments)
    allowed = fault in call.allowed.get(argument, ())
    try:
        result = call.function(**arguments)
    except kc.KfacError as error:
        outcome, failure = type(error).__name__, ""
        words = (argument, *call.words.get(argument, ()))
        if allowed:
            failure = f"is allowed, and was refused: {error}"
        elif not _names(error, call.label) or not _names(error, words):
            failure = f"{outcome} does not name it: {error}"
    except Exception as error:  # what the walk is to find
        outcome = type(error).__name__
        failure = f"{outcome}: {error}"
    else:
        outcome, failure = "accepted", ""
        if not allowed:
            failure = "was accepted"
        elif not _is_finite(result):
            failure = "gives what is not finite"
    if _snapshot(arguments) != before:
        failure += "; an argument was changed"
    return outcome, failure


def _names(error: Exception, words: str | tuple[str, ...]) -> bool:
    """Say whether a message has one of some words."""
    words = words if isinstance(words, tuple) else (words,)
    return any(word in str(error) for word in words)


def _snapshot(tree: Any) -> Any:
    """Return what is equal only where every array holds the same bytes."""
    return [_bytes(leaf) for leaf in leaves(tree)]


def _bytes(leaf: Any) -> Any:
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "ndim"):
        return id(leaf)
    try:
        return np.asarray(kc.backend_of(leaf).to_numpy(leaf)).tobytes()
    except kc.KfacError:
        return id(leaf)


def _is_finite(tree: Any) -> bool:
    for leaf in leaves(tree):
        # A spec may have a dtype, and is no array.
        if hasattr(leaf, "dtype") and hasattr(leaf, "ndim"):
            array = np.asarray(kc.backend_of(leaf).to_numpy(leaf))
            if not np.isfinite(array).all():
                return False
    return True


def leaves(tree: Any) -> list[Any]:
    """Return what stands in nested tuples, lists and dictionaries."""
    if isinstance(tree, Mapping):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]
