"""Notebooks are what their index promises; that they run, the build of pages shows."""

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
INDEX = (DOCS / "notebooks" / "index.md").read_text("utf-8")
LISTED = re.findall(r"^([\w/]+): \S.*\.$", INDEX.split("## Guides")[0], re.MULTILINE)
FREE = {"numpy", "matplotlib", "scipy", "kfac_core"}


def imported(page):
    """The packages outside the standard library that the code of a page imports."""
    cells = re.findall(r"```\{code-cell\}[^\n]*\n(.*?)```", page, re.DOTALL)
    names = set()
    for cell in cells:
        own = re.sub(r"\A---\n.*?---\n", "", cell, flags=re.DOTALL)
        for node in ast.walk(ast.parse(own)):
            if isinstance(node, ast.Import):
                names |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return names


def test_every_notebook_is_in_the_gallery_and_in_the_contents():
    found = {path.stem for path in (DOCS / "notebooks").glob("*.md")} - {"index"}
    contents = INDEX.split(":hidden:")[1].split("```")[0].split()
    assert {Path(name).name for name in LISTED if "/" in name} == found == set(contents)


@pytest.mark.parametrize("name", LISTED)
def test_a_page_of_the_gallery_ends_with_three_exercises(name):
    page = (DOCS / f"{name}.md").read_text("utf-8")
    assert page.startswith("---\nfile_format: mystnb\n")
    exercises = page.split("\n## Exercises\n")[1].split("\n## ")[0]
    assert re.findall(r"^(\d)\. ", exercises, re.MULTILINE) == ["1", "2", "3"]


@pytest.mark.parametrize("name", LISTED)
def test_a_page_of_the_gallery_has_a_picture(name):
    page = (DOCS / f"{name}.md").read_text("utf-8")
    drawn = r"^(plt\.show\(\)|heat_maps\(|slide$|\w+\.plot\(\))"
    assert re.search(drawn, page, re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "question"),
    [
        ("how_far_off", "Which layer of my net is K-FAC worst at?"),
        ("damping", "Does `pi` or `constant` damp better here?"),
        ("four_libraries", "What does curvlinops' `reduce` divide by?"),
    ],
)
def test_a_question_that_readers_ask_is_a_heading(page, question):
    text = (DOCS / "notebooks" / f"{page}.md").read_text("utf-8")
    assert f"\n## {question}\n" in text


@pytest.mark.parametrize("name", [name for name in LISTED if "/" in name])
def test_a_notebook_asserts_and_needs_numpy_alone(name):
    page = (DOCS / f"{name}.md").read_text("utf-8")
    assert "\nassert " in page
    frameworks = {"torch": "PyTorch", "jax": "JAX"}
    title = re.search(r"^# (.*)$", page, re.MULTILINE)[1]
    named = {package for package, name in frameworks.items() if name in title}
    ours = {"collections", "functools", "itertools", "math"}
    assert imported(page) <= FREE | named | ours


@pytest.mark.parametrize("name", LISTED)
def test_every_fence_that_opens_a_cell_is_closed(name):
    page = (DOCS / f"{name}.md").read_text("utf-8")
    fences = re.findall(r"^```(.*)$", page, re.MULTILINE)
    assert all(fences[::2]), "a fence closes what is not open"
    assert not any(fences[1::2]), "a cell is not closed"
