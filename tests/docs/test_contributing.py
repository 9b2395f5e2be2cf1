"""The examples of `CONTRIBUTING.md` are what the tests run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIFFS = re.findall(
    r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL
)


def added_lines(diff):
    """Return what an example adds, by file."""
    added = {}
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            lines = added.setdefault(line.removeprefix("+++ b/"), [])
        elif line.startswith("+"):
            lines.append(line[1:])
    return {path: "\n".join(lines) for path, lines in added.items()}


def test_a_factor_a_block_and_a_loss_have_an_example():
    folders = [Path(next(iter(added_lines(diff)))).parent.name for diff in DIFFS]
    assert folders == ["fisher_factors", "fisher_blocks", "loss_functions"]


@pytest.mark.parametrize("diff", DIFFS)
def test_an_example_is_a_whole_file_and_one_case(diff):
    (path, whole), (cases, case) = added_lines(diff).items()
    assert (ROOT / path).read_text("utf-8") == whole + "\n"
    assert case in (ROOT / cases).read_text("utf-8")
    assert re.findall(r'^    "', case, re.MULTILINE) == ['    "']
