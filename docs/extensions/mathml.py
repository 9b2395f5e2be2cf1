"""Formulas in MathML: browsers show it themselves, without a script or a network."""

import re
from html import unescape
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

MATHML = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", MATHML)

NAMED = re.compile(r"&(?!amp;|lt;|gt;)\w+;")
"""Characters by names that HTML knows, and XML does not."""

BAR = "\N{OVERLINE}"
ACCENTS = {"~": "~", "ˆ": "^", "ˉ": BAR, "_": BAR, "→": "→"}
"""What docutils writes over a letter -> what mathematical fonts draw well there."""


def setup(app: Any) -> dict[str, bool]:
    """Make MathML what Sphinx writes formulas in."""
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline_math(translator: Any, node: nodes.math) -> None:
    """Write math within a line."""
    translator.body.append(formula(node.astext()))
    raise nodes.SkipNode


def displayed_math(translator: Any, node: nodes.math_block) -> None:
    """Write math on lines of its own."""
    shown = formula(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{shown}</div>')
    raise nodes.SkipNode


def formula(text: str, as_block: bool = False) -> str:
    r"""Return LaTeX as MathML, with the indices of an accented letter beside it.

    docutils takes an accent for a limit, so that the index of ``\tilde x_i`` would be
    written below the letter, and a power of the letter beside both.
    """
    written = NAMED.sub(
        lambda entity: unescape(entity[0]), tex2mathml(text, as_block=as_block)
    )
    root = ElementTree.fromstring(written)
    for part in reversed(list(root.iter())):  # the inner ones first
        kind = part.tag.rpartition("}")[2]
        if kind in ("mover", "munderover") and part[-1].text in ACCENTS:
            letter, *index, accent = part
            accent.text = ACCENTS[accent.text]
            # Chromium draws a bar that is an accent through its letter.
            closer = "false" if accent.text == BAR else "true"
            accented = ElementTree.Element(f"{{{MATHML}}}mover", {"accent": closer})
            accented.extend((letter, accent))
            replace(part, "msub" if index else "mrow", accented, *index)
        elif kind == "msup" and part[0].tag == f"{{{MATHML}}}msub":
            # A power stands above the index, as that of a plain letter does.
            replace(part, "msubsup", *part[0], part[1])
    return ElementTree.tostring(root, encoding="unicode")


def replace(part: ElementTree.Element, kind: str, *parts: ElementTree.Element) -> None:
    """Make an element one of another kind, of other parts."""
    part.tag = f"{{{MATHML}}}{kind}"
    part.attrib.clear()
    part[:] = parts
