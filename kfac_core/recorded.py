"""`Recorded`: a value that stands for an array, and writes down what is done with it.

It has the value of one run, so that shapes and branches are those of that run; and a
recorder, which is told of each operation. See `kfac_core.recording`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

OPERATORS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "pow": "**",
    "matmul": "@",
    "mod": "%",
    "floordiv": "//",
    "and": "&",
    "or": "|",
    "xor": "^",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}
"""Names of methods -> the operators that they stand for."""

_COMPARISONS = {"lt", "le", "gt", "ge", "eq", "ne"}


class Recorder(Protocol):
    """What is told of the operations on recorded values."""

    def infix(self, operator: str, x: Any, y: Any) -> Any:
        """Return ``x operator y``."""

    def prefix(self, operator: str, x: Any) -> Any:
        """Return ``operator x``."""

    def item(self, x: Any, key: Any) -> Any:
        """Return ``x[key]``."""

    def attribute(self, x: Any, name: str) -> Any:
        """Return an array that is an attribute of another, such as its transpose."""

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what a function returns."""

    def expect(self, x: Any, kind: type) -> Any:
        """Return a Python value, which every later run must have as well."""

    def looked_at(self, x: Any) -> None:
        """Hear that the form of a value was read."""


class Recorded:
    """An array of a recorded run.

    Attributes:
        recorder: What is told of the operations.
        value: The array of this run.
        place: Which of the recorder's values it is.
    """

    __slots__ = ("place", "recorder", "value")
    __hash__ = object.__hash__
    __array_priority__ = 1e6

    def __init__(self, recorder: Recorder, value: Any, place: int) -> None:
        self.recorder, self.value, self.place = recorder, value, place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    def __getattr__(self, name: str) -> Any:
        """Return the form of the array, or a part of it as a recorded array."""
        self.recorder.looked_at(self)
        if name in {"mT", "T"}:
            return self.recorder.attribute(self, name)
        if name in {"shape", "dtype", "ndim", "size", "device"}:
            return getattr(self.value, name)
        # Whatever else arrays of one library alone have is not recorded.
        raise AttributeError(name)

    def __getitem__(self, key: Any) -> Any:
        return self.recorder.item(self, key)

    def __invert__(self) -> Any:
        return self.recorder.prefix("~", self)

    def __neg__(self) -> Any:
        return self.recorder.prefix("-", self)

    def __abs__(self) -> Any:
        return self.recorder.call(abs, self)

    def __bool__(self) -> bool:
        truth: bool = self.recorder.expect(self, bool)
        return truth

    def __float__(self) -> float:
        number: float = self.recorder.expect(self, float)
        return number

    def __int__(self) -> int:
        number: int = self.recorder.expect(self, int)
        return number

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any
    ) -> Any:
        """Record a function of NumPy, which formulas of numbers use."""
        if method != "__call__" or options:
            return NotImplemented
        return self.recorder.call(ufunc, *inputs)


class RecordedNumber(Recorded):
    """A number of a recorded run: one of Python, or a scalar of NumPy."""

    __slots__ = ("as_float", "origin")

    def __init__(self, recorder: Recorder, value: Any, place: int) -> None:
        super().__init__(recorder, value, place)
        self.as_float: Any = None
        self.origin: Any = None

    @property
    def dtype(self) -> Any:
        """Its dtype; None of a number of Python."""
        self.recorder.looked_at(self)
        return getattr(self.value, "dtype", None)

    def item(self) -> Any:
        """Return the number as one of Python."""
        if type(self.value) is float:
            return self
        if self.as_float is None:
            self.as_float = self.recorder.call(float, self)
            self.as_float.origin = self
        return self.as_float


def _binary(operator: str) -> Callable[[Recorded, Any], Any]:
    return lambda self, other: self.recorder.infix(operator, self, other)


def _reflected(operator: str) -> Callable[[Recorded, Any], Any]:
    return lambda self, other: self.recorder.infix(operator, other, self)


for _name, _operator in OPERATORS.items():
    setattr(Recorded, f"__{_name}__", _binary(_operator))
    if _name not in _COMPARISONS:
        setattr(Recorded, f"__r{_name}__", _reflected(_operator))
