"""Pages of classes: every argument, the inherited verbs, and signatures to read.

A class shows its own docstring, in which a field that a base declares is not repeated.
Here the page gets what the bases say: their entries below the class's own, and a table
of the verbs that it inherits.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)

SECTION = re.compile(r"(Args|Attributes|Example|Examples|Raises|Returns|Note):$")
ENTRY = re.compile(r" {4}(\w+)(?: \(.*?\))?:")
BEFORE_NAPOLEON, AFTER_NAPOLEON = 100, 900
OURS = ("kfac_core", "kfac_backends", "kfac_adapters")

REPRS = (
    (re.compile(r"<function (?:[\w.<>]+\.)?(\w+)(?: at 0x[0-9a-f]+)?>"), r"\1"),
    (re.compile(r"<([A-Z]\w+\.\w+): [^>]+>"), r"\1"),
    (re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>"), r"\1"),
    (re.compile(r"<factory>"), "..."),
    (re.compile(r", _made_by=\w+\(\)|, _made_by: [^,)]+"), ""),
)
"""What `repr` writes of a default -> what a reader would write."""

read_before: dict[str, list[str]] = {}
"""Docstrings of properties on their way past napoleon, by name."""

LONGEST_VALUE = 120
"""Characters of a value beside its name; a longer one is told by its description."""


def setup(app: Any) -> dict[str, bool]:
    """Change what autodoc reads, before napoleon and after it."""
    app.connect("autodoc-process-docstring", read_property, BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", keep_property, AFTER_NAPOLEON)
    app.connect("autodoc-process-docstring", merge_fields, BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", list_inherited)
    app.connect("autodoc-process-signature", shorten)
    app.add_transform(DropPrivateEntries)
    app.add_transform(ShortenValues)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_property(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Read the docstring of a property as one of a method.

    Napoleon takes "The shape: that of a case" for a type and its description, so that
    `keep_property` puts what is read here in the place of what it made of it.
    """
    if what not in ("property", "attribute", "data") or not any(lines):
        return
    read = GoogleDocstring(list(lines), app.config, app, "method", name, obj, options)
    read_before[name] = read.lines()


def keep_property(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Put in place what `read_property` read."""
    lines[:] = read_before.pop(name, lines)


def merge_fields(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Add the fields of the bases to the attributes of a class."""
    if not inspect.isclass(obj) or obj.__name__ != name.rpartition(".")[2]:
        return  # another name of a class leads to that class
    own = {field for field, _ in entries(lines)}
    missing = [field for field in fields_of(obj) if field not in own]
    added = []
    for field in missing:
        found = described_by_bases(obj, field)
        if not found:
            logger.warning("%s: no description of the field %s", name, field)
        added += found
    if added:
        at = end_of_entries(lines)
        header = [] if at is not None else ["", "Attributes:"]
        at = first_section(lines) if at is None else at
        tail = [] if not header else [""]
        lines[at:at] = [*header, *added, *tail]


def fields_of(cls: type) -> list[str]:
    """Return the names of the arguments that make an object of a class of data."""
    if dataclasses.is_dataclass(cls):
        return [
            field.name
            for field in dataclasses.fields(cls)
            if field.init and not field.name.startswith("_")
        ]
    return (
        [] if cls is tuple else [f for f in getattr(cls, "_fields", ()) if f[0] != "_"]
    )


def entries(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each argument or attribute that a docstring describes, with its lines."""
    inside, name, found = False, "", []
    for line in [*lines, "end"]:
        match = ENTRY.match(line) if inside else None
        if (line and not line.startswith(" ")) or match:
            if name:
                yield name, found
            name, found = "", []
        if line and not line.startswith(" "):
            inside = line in ("Attributes:", "Args:")
        elif match:
            name = match[1]
        if name and line.strip():
            found.append(line)


def described_by_bases(cls: type, field: str) -> list[str]:
    """Return the lines with which the nearest base describes a field."""
    for base in cls.__mro__[1:]:
        for name, found in entries((inspect.getdoc(base) or "").splitlines()):
            if name == field and base.__module__.startswith(OURS):
                return found
    return []


def end_of_entries(lines: list[str]) -> int | None:
    """Return the line after the last attribute that a docstring describes, if any."""
    for section in ("Attributes:", "Args:"):
        if section in lines:
            at = lines.index(section) + 1
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at]):
                at += 1
            while not lines[at - 1]:
                at -= 1
            return at
    return None


def first_section(lines: list[str]) -> int:
    """Return the line at which the first section of a docstring begins."""
    for at, line in enumerate(lines):
        if SECTION.match(line):
            return at
    return len(lines)


def list_inherited(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Add a table of the verbs and properties that a class inherits from ours."""
    if not inspect.isclass(obj) or getattr(options, "inherited_members", None):
        return
    rows = [
        f"   * - :py:obj:`{key} <{owner.__module__}.{owner.__name__}.{key}>`\n"
        f"     - {summary}"
        for key, owner, summary in inherited(obj)
    ]
    if rows:
        table = [".. rubric:: Inherited", "", ".. list-table::", "   :widths: 1 2", ""]
        lines += ["", *table, *"\n".join(rows).split("\n"), ""]


def inherited(cls: type) -> Iterator[tuple[str, type, str]]:
    """Yield each documented member that a class has from a base of ours."""
    seen = {*vars(cls)}
    for base in cls.__mro__[1:]:
        for key, member in vars(base).items():
            if key.startswith("_") or key in seen:
                continue
            seen.add(key)
            member = getattr(member, "__func__", member)
            if not (inspect.isfunction(member) or isinstance(member, property)):
                continue
            summary = (inspect.getdoc(member) or "").split("\n\n")[0].replace("\n", " ")
            if base.__module__.startswith(OURS) and summary:
                yield key, base, summary


def shorten(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: Any,
    returned: Any,
) -> tuple[str, str] | None:
    """Write defaults as a reader would write them."""
    return (readable(signature), returned) if signature else None


def readable(text: str) -> str:
    """Return defaults, or a value, as a reader would write them."""
    for pattern, instead in REPRS:
        text = pattern.sub(instead, text)
    return text


class ShortenValues(SphinxTransform):
    """Write the values of attributes as those of arguments, and no long ones."""

    default_priority = 840

    def apply(self, **kwargs: Any) -> None:
        """Rewrite what stands behind an equals sign in the signatures of a page."""
        for node in self.document.findall(addnodes.desc_annotation):
            value = node.children[-1] if node.children else None
            if isinstance(value, nodes.Text) and " = " in f"{node.astext()} ":
                text = readable(str(value))
                text = text if len(text) <= LONGEST_VALUE else "..."
                node.replace(value, nodes.Text(text))


class DropPrivateEntries(SphinxTransform):
    """Keep names that begin with an underscore out of the index."""

    default_priority = 840
    """Before the index reads the entries of a page, at 850."""

    def apply(self, **kwargs: Any) -> None:
        """Drop the entries of a page."""
        for node in self.document.findall(addnodes.index):
            node["entries"] = [own for own in node["entries"] if own[1][0] != "_"]
