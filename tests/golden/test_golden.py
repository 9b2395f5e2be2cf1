"""Numbers recorded from the original, replayed on both faces and every library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case import load
from classes import SERVED
from replay import REPLAYS

RTOL = {np.dtype("float64"): 1e-10, np.dtype("float32"): 1e-5}


@pytest.mark.parametrize("face", ["functional", "contrib"])
def test_recorded_case(
    case_path: Path, face: str, library: Any, record_property: Any
) -> None:
    case = load(case_path)
    name = case.spec["class"]
    assert name in SERVED, f"{case.name} is of the unknown class {name}"

    def convert(data: Any) -> Any:
        if isinstance(data, tuple):
            return tuple(convert(part) for part in data)
        return library.asarray(data)

    answered = set()
    worst = 0.0
    for key, answer in REPLAYS[case.spec["kind"], face](case, convert):
        wanted = case.outputs[key]
        got = library.to_numpy(answer)
        assert got.shape == wanted.shape, f"{case.name}: shape of {key}"
        error = np.max(np.abs(got - wanted)) / np.max(np.abs(wanted))
        allowed = RTOL[wanted.dtype]
        assert error <= allowed, f"{case.name}: {key} is off by {error:.2e}"
        worst = max(worst, error / allowed)
        answered.add(key)
    assert answered == set(case.outputs), "something recorded was not asked for"
    record_property("golden", (library.name, case.name, float(worst)))
