"""Links by a class's own name: `LowRank` leads to where `LowRank` is described.

Docstrings name a class of the library as its readers do, without the modules around it.
A name that looks like a class of ours and is none is a warning.
"""

import builtins
import re
from pydoc import locate
from typing import Any

from sphinx.util import logging
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)

CLASS = re.compile(r"(?:^|\.)([A-Z]\w*[a-z]\w*(?:\.\w+)*)$")
"""The part of a dotted name that begins with the name of a class."""

OUTSIDE = tuple(
    f"{name}."
    for name in (
        *("numpy", "np", "scipy", "torch", "jax", "optax", "flax", "equinox"),
        *("typing", "collections"),
    )
)
"""Where the names of other libraries begin, which no page here describes."""


def setup(app: Any) -> dict[str, bool]:
    """Resolve what Sphinx does not find by the modules of a page."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def resolve(app: Any, env: Any, node: Any, shown: Any) -> Any:
    """Return a link to the class, or its member, that a name ends with."""
    target = node.get("reftarget", "")
    match = CLASS.search(target)
    if node.get("refdomain") != "py" or not match:
        return None
    page = node.get("refdoc", "")
    objects = env.domains["py"].objects
    # A member that a class has from a base without a page is in the table of the class.
    for wanted in (match[1], match[1].rpartition(".")[0]):
        found = [
            (("contrib" in name) != page.endswith("contrib"), len(name), name, entry)
            for name, entry in objects.items()
            if wanted and (name == wanted or name.endswith(f".{wanted}"))
        ]
        if found:
            break
    if not found:
        outside = target in dir(builtins) or target.startswith(OUTSIDE)
        if node.get("reftype") == "obj" and not outside and locate(target) is None:
            logger.warning("no class or member is called %s", target, location=node)
        return None
    *_, name, entry = min(found, key=lambda each: each[:3])
    return make_refnode(app.builder, page, entry.docname, entry.node_id, shown, name)
