"""Every script of `findings` is in its list, with the version that it pins."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "findings"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.sh"))
README = (FOLDER / "README.md").read_text()
LISTED = dict(re.findall(r"^\| \[(\S+\.sh)\]\(\1\) \| ([^|]+) \|", README, re.M))


def test_the_list_has_every_script_and_no_other():
    assert sorted(LISTED) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_tells_the_listed_version_and_pins_it(name):
    text = (FOLDER / name).read_text()
    for number in re.findall(r"\d+\.\d+\.\d+", LISTED[name]):
        assert number in text.splitlines()[1]
        assert f"=={number}" in text
