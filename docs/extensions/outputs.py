"""What code has printed: lines of prose break, and tables keep their columns."""

from typing import Any

from docutils import nodes

WIDE = 60
"""Characters of a line that a telephone would cut off."""


def setup(app: Any) -> dict[str, bool]:
    """Mark the outputs of prose; the style sheet says how they look."""
    app.connect("doctree-resolved", mark_prose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mark_prose(app: Any, tree: nodes.document, page: str) -> None:
    """Give the class `prose` to wide outputs that are not tables."""
    for block in tree.findall(nodes.literal_block):
        if "output" in block["classes"] and is_wide_prose(block.astext()):
            block["classes"].append("prose")


def is_wide_prose(text: str) -> bool:
    """Return whether a text has a long line, and no columns that spaces align."""
    lines = [line.strip() for line in text.splitlines()]
    return max(map(len, lines), default=0) > WIDE and not any(
        "  " in line for line in lines
    )
