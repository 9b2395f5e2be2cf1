"""The README's code runs as it stands, and its commands are those that CI runs."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
READERS = ["torch", "jax", "trainer", "adapter", "researcher", "teacher"]


@pytest.mark.parametrize("code", BLOCKS, ids=READERS)
def test_code_runs(code: str, needed: Callable[[str], Any]) -> None:
    for library in ("torch", "jax"):
        if f"import {library}" in code:
            needed(library)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("code", BLOCKS, ids=READERS)
def test_code_has_ten_lines_but_for_imports(code: str) -> None:
    statements = [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.stmt)
        and not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert len(statements) <= 10


@pytest.mark.parametrize("marker", ["demo-command", "test-command"])
def test_commands_are_marked_and_of_one_line(marker: str) -> None:
    block = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert block[1].count("\n") == 1
