"""What an argument of each kind cannot be: names of faults, and values with them.

Each kind is a function of a right value. It returns a dictionary from the name of a
fault to a value that has it; a table adds faults of its own with ``|``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import kfac_core as kc

Faults = dict[str, Any]

HUGE = 10**400  # no float holds it

NOTHINGS: Faults = {
    "None": None,
    "string": "strings",
    "empty string": "",
    "dictionary": {"a": 1.0},
    "object": object(),
    "type": float,
}
"""What stands for no argument at all."""


class Kinds:
    """The kinds of arguments, whose arrays are of one library.

    Args:
        asarray: Makes an array of the library from one of NumPy.
        other: Makes an array of another library from one of NumPy; None: no fault.
        there: Makes an array of the library on another device; None: no fault.
    """

    def __init__(
        self,
        asarray: Callable[[np.ndarray], Any],
        other: Callable[[np.ndarray], Any] | None = None,
        there: Callable[[np.ndarray], Any] | None = None,
    ) -> None:
        self.asarray, self.other, self.there = asarray, other, there

    def _elsewhere(self, x: np.ndarray) -> Faults:
        places = {"another library": self.other, "another device": self.there}
        return {name: make(x) for name, make in places.items() if make is not None}

    def data(self, x: np.ndarray, channels: int = -1, cases: int = 0) -> Faults:
        """Real data: `channels` is an axis whose size is known, `cases` the batch."""
        spoiled = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf}
        arrays = {
            "no axes": np.asarray(1.0),
            "an axis more": x[None],
            "an axis less": x.reshape(-1) if x.ndim > 1 else np.asarray(x.sum()),
            "too wide": np.concatenate([x, x], axis=channels),
            "empty": np.take(x, [], axis=cases),
            "no channels": np.take(x, [], axis=channels),
            "a case less": np.delete(x, 0, axis=cases),
            "booleans": x > 0,
            "integers": x.astype(np.int64),
            "complex": x.astype(np.complex128),
            **{name: _with_first(x, value) for name, value in spoiled.items()},
        }
        arrays = {name: self.asarray(value) for name, value in arrays.items()}
        lists = {"number": 1.0, "list": x.tolist(), "an empty tuple": ()}
        return NOTHINGS | lists | arrays | self._elsewhere(x)

    def ids(self, x: np.ndarray, size: int, cases: int = 0) -> Faults:
        """Ids in ``[0, size)``."""
        arrays = {
            "no axes": np.asarray(1),
            "empty": np.take(x, [], axis=cases),
            "a case less": np.delete(x, 0, axis=cases),
            "booleans": x > 0,
            "real numbers": x.astype(np.float64),
            "too large": _with_first(x, size),
            "below zero": _with_first(x, -1),
        }
        arrays = {name: self.asarray(value) for name, value in arrays.items()}
        lists = {"number": 1, "list": x.tolist(), "an empty tuple": ()}
        return NOTHINGS | lists | arrays | self._elsewhere(x)

    def weights(self, cases: int) -> Faults:
        """Weights of rows, ``[cases]``."""
        ones = np.ones(cases)
        arrays = {
            "no axes": np.asarray(1.0),
            "a case less": ones[1:],
            "a case more": np.ones(cases + 1),
            "an axis more": ones[None],
            "below zero": -ones,
            "NaN": _with_first(ones, np.nan),
            "infinity": _with_first(ones, np.inf),
            "complex": ones.astype(np.complex128),
        }
        arrays = {name: self.asarray(value) for name, value in arrays.items()}
        lists = {"number": 1.0, "list": ones.tolist(), "an empty tuple": ()}
        lists |= {
            "no uses": kc.Uses(()),
            "uses None": kc.Uses(None),
            "uses of None": kc.Uses((None,)),
            "sides of strings": kc.RowWeights("a", "b"),
            "a tower more": (self.asarray(ones), self.asarray(ones)),
        }
        return NOTHINGS | lists | arrays | self._elsewhere(ones)

    def vector(self, x: Any) -> Faults:
        """Arrays in the shapes of a layer's parameters: one, or a tuple of them."""
        parts = x if isinstance(x, tuple) else (x,)
        found: Faults = {"number": 1.0, "an empty tuple": (), "list": parts[0].tolist()}
        found["a part more"] = self._arrays((*parts, np.ones(1)))
        if len(parts) > 1:
            found["a part less"] = self.asarray(parts[0])
            found["a part None"] = (*self._arrays(parts[:-1]), None)
        for name, bad in self.data(parts[0]).items():
            # Sizes of a parameter are known on all axes: a batch is none of them.
            if name in NOTHINGS or name in found:
                continue
            rest = self._arrays(parts[1:])
            found[name] = (bad, *rest) if rest else bad
        return NOTHINGS | found

    def named(self, x: dict[str, Any], *left_out: str) -> Faults:
        """Arrays by name, in known shapes; `left_out` are faults that are none."""
        first = next(iter(x))
        found = NOTHINGS | {
            "number": 1.0,
            "list": list(x),
            "an array": x[first],
            "no names": {},
            "a name more": {**x, "unknown": x[first]},
            "a name less": {key: part for key, part in x.items() if key != first},
            "another name": {f"{key}_": part for key, part in x.items()},
        }
        known = np.asarray(kc.backend_of(x[first]).to_numpy(x[first]))
        for name, bad in self.data(known).items():
            if name not in left_out:
                found[f"{first}: {name}"] = {**x, first: bad}
        return found

    def scalar(self, upper: float | None = None, lower: float | None = 0.0) -> Faults:
        """A number in ``[lower, upper]``; None: without this bound."""
        ends: Faults = {}
        if lower is not None:
            ends |= {"below": lower - 0.5, "an array below": np.asarray(lower - 0.5)}
        if upper is not None:
            ends |= {"above": upper + 0.5, "an array above": np.asarray(upper + 0.5)}
        arrays = {
            name: self.asarray(value)
            for name, value in {
                **{k: v for k, v in ends.items() if isinstance(v, np.ndarray)},
                "an array of NaN": np.asarray(np.nan),
                "an array of infinity": np.asarray(np.inf),
                "two numbers": np.asarray([0.5, 0.5]),
                "booleans": np.asarray(True),
                "a complex array": np.asarray(0.5 + 0j),
            }.items()
        }
        numbers = {
            "flag": True,
            "flag of NumPy": np.bool_(True),
            "NaN": np.nan,
            "infinity": np.inf,
            "minus infinity": -np.inf,
            "NaN of NumPy": np.float32(np.nan),
            "huge": HUGE,
            "complex": 1j,
            "list": [0.5],
            "an empty tuple": (),
        }
        elsewhere = self._elsewhere(np.asarray(0.5))
        return NOTHINGS | ends | numbers | arrays | elsewhere

    def state(self, **others: Any) -> Faults:
        """A state; `others` are states of other specs."""
        arrays = {"an array": self.asarray(np.ones(2))}
        bare = {"an empty tuple": (), "a tuple": (1, 2), "number": 1.0, "list": []}
        return NOTHINGS | bare | arrays | others

    def _arrays(self, parts: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        return tuple(self.asarray(part) for part in parts)


def choice(*others: Any) -> Faults:
    """A word of a few; `others` are near misses."""
    misses = {f"miss {number}": other for number, other in enumerate(others)}
    return NOTHINGS | {"list": ["a"], "number": 1.5, "array": np.ones(2)} | misses


def flag() -> Faults:
    """True or False."""
    return NOTHINGS | {"one": 1, "number": 0.5, "array": np.ones(2), "list": []}


def size() -> Faults:
    """A positive integer."""
    numbers = {"zero": 0, "below": -1, "fraction": 2.5, "NaN": np.nan, "flag": True}
    return NOTHINGS | numbers | {"list": [2], "array": np.ones(2), "digit": "3"}


def power() -> Faults:
    """An exponent."""
    numbers = {"NaN": np.nan, "infinity": np.inf, "huge": HUGE, "complex": 1j}
    return NOTHINGS | numbers | {"list": [], "array": np.ones(2), "digit": "-1"}


def name() -> Faults:
    """A name, of a layer or a damping: hashable, and text where text is asked for."""
    return {"list": [], "dictionary": {}, "array": np.ones(2)}


def _with_first(x: np.ndarray, value: Any) -> np.ndarray:
    spoiled = np.array(x)
    spoiled[(0,) * x.ndim] = value
    return spoiled
