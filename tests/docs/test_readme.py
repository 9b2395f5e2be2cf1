"""The README's code runs as it stands, and its commands are those that CI runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS, PRINTED = zip(
    *re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL),
    strict=True,
)
LINES = [int(n) for n in re.findall(r"\*\*You .*, in (\d+) lines\.\*\*", README)]
READERS = ["torch", "jax", "trainer", "adapter", "researcher", "teacher"]
NUMBER = re.compile(r"-?\d+\.\d+")


def test_every_program_is_followed_by_what_it_prints() -> None:
    assert len(BLOCKS) == README.count("```python\n") == len(READERS)


@pytest.mark.parametrize(
    ("code", "printed"), [*zip(BLOCKS, PRINTED, strict=True)], ids=READERS
)
def test_code_prints_what_is_below_it(
    code: str,
    printed: str,
    needed: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for library in ("torch", "jax"):
        if f"import {library}" in code:
            needed(library)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    found = capsys.readouterr().out
    assert NUMBER.sub("#", found).split() == NUMBER.sub("#", printed).split()
    # The last digits of a trained network are those of one processor.
    expected = [float(x) for x in NUMBER.findall(printed)]
    numbers = [float(x) for x in NUMBER.findall(found)]
    assert numbers == pytest.approx(expected, rel=0.05, abs=0.05)


@pytest.mark.parametrize(
    ("code", "lines"), [*zip(BLOCKS, LINES, strict=True)], ids=READERS
)
def test_titles_say_how_many_lines_there_are(code: str, lines: int) -> None:
    assert lines == sum(bool(line.strip()) for line in code.splitlines())
    assert lines <= 18


@pytest.mark.parametrize("marker", ["demo-command", "test-command"])
def test_commands_are_marked_and_of_one_line(marker: str) -> None:
    block = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert block[1].count("\n") == 1
