"""The example of `CONTRIBUTING.md` is what the tests run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def added_lines():
    """Return what the example adds, by file."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    (diff,) = re.findall(r"```diff\n(.*?)```", text, re.DOTALL)
    added = {}
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            lines = added.setdefault(line.removeprefix("+++ b/"), [])
        elif line.startswith("+"):
            lines.append(line[1:])
    return {path: "\n".join(lines) for path, lines in added.items()}


def test_the_example_stands_in_the_files_that_it_names():
    added = added_lines()
    assert len(added) == 2
    for path, text in added.items():
        assert text in (ROOT / path).read_text("utf-8"), path


def test_the_example_is_a_whole_file_and_one_case():
    whole, case = added_lines().items()
    assert (ROOT / whole[0]).read_text("utf-8") == whole[1] + "\n"
    assert case[1].count("\n") == 0
