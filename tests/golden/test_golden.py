"""Numbers recorded from the original, replayed on both faces and every library."""

from pathlib import Path
from typing import Any

import numpy as np
from case import load
from corrections import corrected
from golden_classes import SERVED
from replay import REPLAYS

RTOL = {np.dtype("float64"): 1e-10, np.dtype("float32"): 1e-5}
# A rounding error of one step grows over those that follow.
RTOL_OF_RUNS = 1e-8


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """Return the error, infinite where only one of the two is not a number."""
    if not np.array_equal(np.isnan(got), np.isnan(wanted)):
        return np.inf
    scale = np.nanmax(np.abs(wanted)) if np.any(np.isfinite(wanted)) else 1.0
    return float(np.nanmax(np.abs(np.nan_to_num(got - wanted))) / (scale or 1.0))


def test_recorded_case(
    case_path: Path, face: str, library: Any, record_property: Any
) -> None:
    case = corrected(load(case_path))
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
        error = relative_error(got, wanted)
        is_run = case.spec["kind"] == "optimizer"
        allowed = max(RTOL[wanted.dtype], RTOL_OF_RUNS if is_run else 0.0)
        assert error <= allowed, f"{case.name}: {key} is off by {error:.2e}"
        worst = max(worst, error / allowed)
        answered.add(key)
    assert answered == set(case.outputs), "something recorded was not asked for"
    record_property("golden", (library.name, case.name, float(worst)))
