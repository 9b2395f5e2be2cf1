"""`Tape`: what a run did with its arguments, one operation after the other."""

from collections.abc import Callable
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kfac_core.backend import Backend
from kfac_core.recorded import Recorded, RecordedNumber

MOST_OPERATIONS = 5_000
"""Number of operations from which a run is too long to be written down."""


class CannotRecordError(Exception):
    """The run does what no later run could repeat, or depends on what is not told."""


class Operation(NamedTuple):
    """One step of a run.

    Attributes:
        result: The place of its value; None: it is a condition, without a value.
        text: An expression, with a ``{}`` for each of `parts`.
        parts: Recorded values, and constants.
    """

    result: int | None
    text: str
    parts: tuple[Any, ...]


class Tape:
    """The operations of one run; a `kfac_core.recorded.Recorder`.

    Attributes:
        backend: The backend of the arrays.
        operations: What was done, in order.
        forms: The places of the values whose form was read.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.operations: list[Operation] = []
        self.forms: set[int] = set()
        self._numbers: dict[int, Any] = {}
        self._expected: set[tuple[int, Any]] = set()
        self._count = 0

    def stand_in(self, value: Any, kind: type[Recorded] = Recorded) -> Any:
        """Return a recorded value that no operation has made."""
        self._count += 1
        return kind(self, value, self._count - 1)

    def infix(self, operator: str, x: Any, y: Any) -> Any:
        """Record an operator of two values."""
        value = _INFIX[operator](self._plain(x), self._plain(y))
        return self._made(value, f"({{}} {operator} {{}})", (x, y))

    def prefix(self, operator: str, x: Any) -> Any:
        """Record an operator of one value."""
        value = ~self._plain(x) if operator == "~" else -self._plain(x)
        return self._made(value, f"({operator}{{}})", (x,))

    def item(self, x: Any, key: Any) -> Any:
        """Record the choice of a part."""
        plain = self._plain(key)
        return self._made(self._plain(x)[plain], "{}[{}]", (x, key))

    def attribute(self, x: Any, name: str) -> Any:
        """Record an attribute that is an array."""
        return self._made(getattr(x.value, name), f"{{}}.{name}", (x,))

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Record a call, whose arguments may be nested."""
        values = [self._plain(x) for x in args]
        named = {name: self._plain(x) for name, x in kwargs.items()}
        found = function(*values, **named)
        text = ", ".join([*["{}"] * len(args), *[f"{name}={{}}" for name in kwargs]])
        return self._made(found, f"{{}}({text})", (function, *args, *kwargs.values()))

    def expect(self, x: Any, kind: type) -> Any:
        """Record that a value is what it is in this run."""
        value = kind(x.value)
        if (x.place, kind) in self._expected:
            return value
        self._expected.add((x.place, kind))
        if kind is bool:
            self._add(None, "{}" if value else "not {}", (x,))
        else:
            self._add(None, "{}({}) == {}", (kind, x, value))
        return value

    def expect_call(self, function: Callable[..., Any], x: Any) -> Any:
        """Record that a function returns the very object that it does in this run."""
        found = function(x.value)
        if (x.place, function) not in self._expected:
            self._expected.add((x.place, function))
            self._add(None, "{}({}) is {}", (function, x, found))
        return found

    def number(self, function: Callable[..., Any], x: Any) -> Any:
        """Record the number of an array, which later runs must know as well."""
        known = self._numbers.get(x.place)
        if known is None:
            known = self.call(function, x)
            self._add(None, "{} is not None", (known,))
            self._numbers[x.place] = known
        return known

    def is_number(self, array: Any, number: Any) -> None:
        """Remember that an array was made of a number, of the array's own dtype."""
        self._numbers[array.place] = number

    def looked_at(self, x: Any) -> None:
        """Remember that the form of a value was read."""
        self.forms.add(x.place)

    def _plain(self, x: Any) -> Any:
        """Return the value of a recorded one, also within tuples and slices."""
        if isinstance(x, Recorded):
            if x.recorder is not self:
                msg = "a value of another run"
                raise CannotRecordError(msg)
            return x.value
        if type(x) in {tuple, list}:
            return type(x)(self._plain(part) for part in x)
        if isinstance(x, slice):
            return slice(*map(self._plain, (x.start, x.stop, x.step)))
        return x

    def _made(self, value: Any, text: str, parts: tuple[Any, ...]) -> Any:
        if isinstance(value, tuple | list):
            whole = self._named(value, text, parts)
            return tuple(
                [self._made(part, "{}[{}]", (whole, k)) for k, part in enumerate(value)]
            )
        return self._named(value, text, parts)

    def _named(self, value: Any, text: str, parts: tuple[Any, ...]) -> Any:
        is_number = isinstance(value, float | np.generic)
        made = self.stand_in(value, RecordedNumber if is_number else Recorded)
        self._add(made.place, text, parts)
        return made

    def _add(self, result: int | None, text: str, parts: tuple[Any, ...]) -> None:
        if len(self.operations) >= MOST_OPERATIONS:
            msg = f"more than {MOST_OPERATIONS} operations"
            raise CannotRecordError(msg)
        self.operations.append(Operation(result, text, parts))


_INFIX: MappingProxyType[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "+": lambda x, y: x + y,
        "-": lambda x, y: x - y,
        "*": lambda x, y: x * y,
        "/": lambda x, y: x / y,
        "**": lambda x, y: x**y,
        "@": lambda x, y: x @ y,
        "%": lambda x, y: x % y,
        "//": lambda x, y: x // y,
        "&": lambda x, y: x & y,
        "|": lambda x, y: x | y,
        "^": lambda x, y: x ^ y,
        "<": lambda x, y: x < y,
        "<=": lambda x, y: x <= y,
        ">": lambda x, y: x > y,
        ">=": lambda x, y: x >= y,
        "==": lambda x, y: x == y,
        "!=": lambda x, y: x != y,
    }
)

running: ContextVar[Tape] = ContextVar("running")
"""The tape of the run that is being recorded."""
