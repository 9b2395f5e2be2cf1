"""The folder of recorded cases: which of them run, and how they went."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECORDED = Path(__file__).parent / "recorded"


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


def cases_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"))


def summary(reports: Iterable[Any]) -> list[str]:
    """Count the cases that passed, by library, with their worst error."""
    worst: dict[str, tuple[float, str]] = {}
    cases: dict[str, set[str]] = {}
    for report in reports:
        for key, value in report.user_properties:
            if key == "golden" and report.when == "call":
                library, case, error = value
                cases.setdefault(library, set()).add(case)
                worst[library] = max(worst.get(library, (0.0, "")), (error, case))
    return [
        f"{library}: {len(names)} cases passed; worst error {worst[library][0]:.1e} of"
        " what is allowed (1e-10 relative, 1e-5 where recorded in float32, 1e-8 of a"
        " run of the optimiser), in"
        f" {worst[library][1]}"
        for library, names in cases.items()
    ]
