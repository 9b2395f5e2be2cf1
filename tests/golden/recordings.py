"""The folder of recorded cases: which of them run, and how they went."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECORDED = Path(__file__).parent / "recorded"

# What the original has and the library does not have yet: named at the end of a run,
# so that it is neither taken for tested nor for unknown.
NOT_YET: frozenset[str] = frozenset()


def folder_of(config: pytest.Config) -> Path:
    given = config.getoption("--golden", default=None)
    return (config.invocation_params.dir / given) if given else RECORDED


def spec_of(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        spec: dict[str, Any] = json.loads(str(archive["spec"]))
    return spec


def faces_of(path: Path) -> tuple[str, ...]:
    """Return the faces that have what a case was recorded of."""
    whole_runs = spec_of(path)["kind"] == "optimizer"
    return ("functional",) if whole_runs else ("functional", "contrib")


def cases_in(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Return the files of the cases to run, and what is left out, counted."""
    run, left_out = [], Counter[str]()
    for path in sorted(folder.glob("*.npz")):
        spec = spec_of(path)
        names = NOT_YET & {spec.get("kind"), spec.get("class")}
        if names:
            left_out.update(names)
        else:
            run.append(path)
    return run, left_out


def summary(reports: Iterable[Any], folder: Path) -> list[str]:
    """Count the cases that passed, by library, with their worst error."""
    worst: dict[str, tuple[float, str]] = {}
    cases: dict[str, set[str]] = {}
    for report in reports:
        for key, value in report.user_properties:
            if key == "golden" and report.when == "call":
                library, case, error = value
                cases.setdefault(library, set()).add(case)
                worst[library] = max(worst.get(library, (0.0, "")), (error, case))
    lines = [
        f"{library}: {len(names)} cases passed; worst error {worst[library][0]:.1e} of"
        " what is allowed (1e-10 relative, 1e-5 where recorded in float32, 1e-8 of a"
        " run of the optimiser), in"
        f" {worst[library][1]}"
        for library, names in cases.items()
    ]
    _, left_out = cases_in(folder)
    if lines and left_out:
        counted = ", ".join(f"{n} {name}" for name, n in sorted(left_out.items()))
        lines.append(f"not covered yet: {counted}")
    return lines
