"""The code of the page on saving runs, with each package that is installed."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "saving.md"
BLOCKS = re.findall(
    r"% needs ([^\n]*)\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL
)


@pytest.mark.filterwarnings("default")  # of packages that are none of ours
@pytest.mark.parametrize(
    ("packages", "code"), BLOCKS, ids=[f"{k}-{b[0]}" for k, b in enumerate(BLOCKS)]
)
def test_code_runs(
    packages: str,
    code: str,
    needed: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in packages.split():
        if package in ("torch", "jax"):
            needed(package)
        elif not find_spec(package.partition(".")[0]):
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, "exec"), {"__name__": "saving"})


def test_no_code_is_left_out() -> None:
    assert len(BLOCKS) == PAGE.read_text().count("```python")
