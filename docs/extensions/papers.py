"""Papers that the text names lead to the bibliography: "George et al. (2018)" links.

A name and year that the bibliography does not have are a warning. `cited` is what the
tests hold docstrings to as well.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parents[1] / "bibliography.md"
NAME = r"(?:Van\s|Le)?[A-Z][a-z]+"
CITED = re.compile(
    rf"(?<!\b[A-Z]\.\s)\b(?P<first>{NAME})(?:,\s{NAME})*"
    rf"(?:,?\s(?:&|and)\s{NAME}|\set\sal\.)?,?\s\(?(?P<year>(?:19|20)\d\d)\b"
)
MONTHS = {"January", "May", "June", "July", "In", "Since", "November"}
SKIPPED = (nodes.literal, nodes.literal_block, nodes.reference, nodes.title)


class Citation(NamedTuple):
    """A paper as a text names it.

    Attributes:
        text: The words of the text.
        start: Where they begin.
        key: The first author's last name and the year, as the bibliography labels them.
    """

    text: str
    start: int
    key: str


def setup(app: Any) -> dict[str, bool]:
    """Make links of the names of papers, once a page is read."""
    app.connect("doctree-read", link_papers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def known(page: str) -> set[str]:
    """Return the keys of all papers in the text of a bibliography."""
    return set(re.findall(r"^\((\w+-\d{4})\)=$", page, re.MULTILINE))


def cited(text: str) -> Iterator[Citation]:
    """Yield each paper that a text names with its authors and year."""
    for match in CITED.finditer(text):
        author = match["first"]
        if author not in MONTHS:
            key = f"{''.join(author.split()).lower()}-{match['year']}"
            yield Citation(match[0], match.start(), key)


def link_papers(app: Any, tree: nodes.document) -> None:
    """Put links in place of the names of papers."""
    page = app.env.docname
    if page == PAGE.stem:
        return
    keys = known(PAGE.read_text(encoding="utf-8"))
    join_lines(tree)
    for text in list(tree.findall(nodes.Text)):
        if any(isinstance(each, SKIPPED) for each in ancestors(text)):
            continue
        plain, parts, end = str(text), [], 0
        for words, start, key in cited(plain):
            if key not in keys:
                logger.warning("%s: the bibliography has no %s", page, words)
                continue
            link = addnodes.pending_xref(
                "",
                nodes.inline("", words),
                refdomain="std",
                reftype="ref",
                reftarget=key,
                refexplicit=True,
                refwarn=True,
                refdoc=page,
            )
            parts += [nodes.Text(plain[end:start]), link]
            end = start + len(words)
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(plain[end:])])


def join_lines(tree: nodes.document) -> None:
    """Make one text of those that the ends of lines set apart, as MyST has them."""
    for parent in list(tree.findall(nodes.TextElement)):
        joined: list[nodes.Node] = []
        for child in parent.children:
            if joined and all(
                isinstance(each, nodes.Text) for each in (joined[-1], child)
            ):
                joined[-1] = nodes.Text(str(joined[-1]) + str(child))
            else:
                joined.append(child)
        if len(joined) < len(parent.children):
            parent.children = joined
            for child in joined:
                child.parent = parent


def ancestors(node: Any) -> Iterator[Any]:
    """Yield what a node is within, from the inside out."""
    while node := node.parent:
        yield node
