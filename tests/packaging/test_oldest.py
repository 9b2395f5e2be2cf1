"""The oldest releases that are tested are those that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BESIDE = {"jaxlib", "pyparsing"}
"""What a dependency brings along: in its own version, or in one of its time."""
NOT_ON_A_CPU = {"cupy-cuda12x", "cupy-cuda13x"}
TOOLS = ("docs", "dev")
"""The extras that no test needs."""


def pinned():
    lines = (ROOT / "constraints-oldest.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def lower_bounds():
    extras = PROJECT["optional-dependencies"]
    chosen = [needs for extra, needs in extras.items() if extra not in TOOLS]
    bounds = {}
    for requirement in sum(chosen, PROJECT["dependencies"]):
        if not requirement.startswith(PROJECT["name"]):
            name, bound = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()
            bounds[name] = bound
    return {name: v for name, v in bounds.items() if name not in NOT_ON_A_CPU}


def test_every_dependency_is_tested_at_its_lower_bound():
    assert pinned().keys() - BESIDE == lower_bounds().keys()


def test_a_tested_release_is_the_first_of_its_bound():
    """The first of 2.3 may be 2.3.1."""
    for name, bound in lower_bounds().items():
        assert f"{pinned()[name]}.".startswith(f"{bound}."), name
