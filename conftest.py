"""Hooks for the whole test suite: the recorded cases of the original."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

# Parallel workers with a thread for each core each would wait for each other. A worker
# inherits this before it loads anything.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

GOLDEN = Path(__file__).parent / "tests" / "golden"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave the recorded cases alone where a folder of these is given."""
    if config.getoption("--golden", default=None):
        golden = [item for item in items if item.path.parent == GOLDEN]
        config.hook.pytest_deselected(items=[i for i in items if i not in golden])
        items[:] = golden


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many recorded cases ran, and how well.

    Here and not beside the cases, since the controller of parallel runs does not
    collect.
    """
    sys.path.insert(0, str(GOLDEN))
    from recordings import summary

    passed = terminalreporter.stats.get("passed", [])
    if lines := summary(passed):
        terminalreporter.section("recorded cases of the original")
        for line in lines:
            terminalreporter.write_line(line)
