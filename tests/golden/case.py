"""One recorded case: its specification, its data by step, and what it should give."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

KEY = re.compile(
    r"in/(?P<argument>\w+)(/source(?P<source>\d+))?(/tower(?P<tower>\d+))?"
    r"/step(?P<step>\d+)(/(?P<part>\d+))?$"
)


class Case(NamedTuple):
    """A recorded case.

    Attributes:
        name: Its file's name.
        spec: Class, constructor arguments, decay, queries, ...
        steps: For each step, by argument: nested tuples over sources and towers, of
            those axes that the argument has, or over the parts of a parameter.
        inputs: Other arrays that went in, by name without ``in/``.
        outputs: Arrays that came out, by name without ``out/``.
    """

    name: str
    spec: dict[str, Any]
    steps: list[dict[str, Any]]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def load(path: Path) -> Case:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    spec = json.loads(str(arrays.pop("spec")))
    by_step: dict[int, dict[str, dict[tuple[int, ...], np.ndarray]]] = {}
    inputs = {}
    for key, array in arrays.items():
        if match := KEY.match(key):
            place = tuple(
                int(match[axis])
                for axis in ("source", "tower", "part")
                if match[axis] is not None
            )
            step = by_step.setdefault(int(match["step"]), {})
            step.setdefault(match["argument"], {})[place] = array
        elif key.startswith("in/"):
            inputs[key.removeprefix("in/")] = array
    steps = [
        {argument: nested(places) for argument, places in by_step[t].items()}
        for t in sorted(by_step)
    ]
    outputs = {
        key.removeprefix("out/"): array
        for key, array in arrays.items()
        if key.startswith("out/")
    }
    return Case(path.stem, spec, steps, inputs, outputs)


def nested(places: dict[tuple[int, ...], Any]) -> Any:
    """Turn ``{(0, 1): x, ...}`` into nested tuples."""
    if () in places:
        return places[()]
    length = 1 + max(place[0] for place in places)
    return tuple(
        nested({p[1:]: x for p, x in places.items() if p[0] == i})
        for i in range(length)
    )


def params(arrays: dict[str, Any], prefix: str) -> Any:
    """Return the array under `prefix`, or the tuple under ``prefix/0``, ..."""
    if prefix in arrays:
        return arrays[prefix]
    parts = []
    while f"{prefix}/{len(parts)}" in arrays:
        parts.append(arrays[f"{prefix}/{len(parts)}"])
    return tuple(parts) if len(parts) > 1 else parts[0]
