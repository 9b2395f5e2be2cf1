"""Every paper that a docstring or a page names is in the bibliography."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bibliography.md").read_text("utf-8")


@pytest.fixture(scope="module")
def papers():
    folder = str(ROOT / "docs" / "extensions")
    sys.path.insert(0, folder)
    import papers

    sys.path.remove(folder)
    return papers


def texts():
    for package in ("kfac_core", "backends"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, path.read_text("utf-8")
    for path in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"):
        yield path, re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)


def test_every_paper_that_a_text_names_is_there(papers):
    keys = papers.known(PAGE)
    named = {
        (each.key, str(path.relative_to(ROOT)))
        for path, text in texts()
        if path.name != "bibliography.md"
        for each in papers.cited(" ".join(text.split()))
    }
    assert len({key for key, _ in named}) >= 30
    assert not sorted((key, path) for key, path in named if key not in keys)


def test_papers_are_told_by_first_author_and_year(papers):
    text = (
        "(Martens & Grosse, 2015, section 3), George et al. (2018), in May 2018,"
        " Van Loan & Pitsianis, 1993; Martens, Ba & Johnson (2018), equation 2018"
    )
    assert [each.key for each in papers.cited(text)] == [
        "martens-2015",
        "george-2018",
        "vanloan-1993",
        "martens-2018",
    ]


def test_entries_have_authors_a_year_and_a_title_in_the_order_of_names(papers):
    entries = re.split(r"^\((\w+)-(\d{4})\)=\n", PAGE, flags=re.MULTILINE)[1:]
    keys = [*zip(entries[::3], entries[1::3], strict=True)]
    assert keys == sorted(keys)
    for author, year, entry in zip(
        entries[::3], entries[1::3], entries[2::3], strict=True
    ):
        flat = " ".join(entry.split())
        first = re.split(r",| and | \(", flat)[0]
        assert first.replace(" ", "").lower().endswith(author)
        assert re.match(rf"[^*]+ \({year}\)\. \*[^*]+\*\.", flat), flat
        for number, link in re.findall(r"\[arXiv:(.*?)\]\((.*?)\)", flat):
            assert link == f"https://arxiv.org/abs/{number}"


def test_what_is_cited_is_this_version():
    """The BibTeX of the page, `CITATION.cff` and the package agree."""
    page = (ROOT / "docs" / "citing.md").read_text("utf-8")
    cff = (ROOT / "CITATION.cff").read_text("utf-8")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "(.*)"$', project, re.MULTILINE)[1]
    assert f"\nversion: {version}\n" in cff
    assert f"version = {{{version}}}" in page
    year = re.search(r'^date-released: "(\d{4})-', cff, re.MULTILINE)[1]
    assert re.search(rf"year += \{{{year}\}}", page)
