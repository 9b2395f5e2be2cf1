"""A gallery of pages, and a notebook to download of each page that has run.

```{gallery}
notebooks/ten_pictures: One line about it.
```
"""

import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.util.docutils import SphinxDirective


def setup(app: Any) -> dict[str, bool]:
    """Register the directive, and what adds downloads to pages."""
    app.add_node(page_card)
    app.add_directive("gallery", Gallery)
    # Before Sphinx collects the files that pages offer.
    app.connect("doctree-read", offer_download, priority=100)
    app.connect("doctree-resolved", fill)
    app.add_css_file("gallery.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class page_card(nodes.General, nodes.Element):
    """A place for one page of the gallery."""


class Gallery(SphinxDirective):
    """Pages with a line about each, by their last pictures and titles."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return a place for each line ``page: words``."""
        box = nodes.container(classes=["gallery"])
        for line in self.content:
            page, _, words = line.partition(": ")
            box += page_card("", page=page.strip(), words=words.strip())
        return [box]


def fill(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put picture, title and words in each place, once all pages have run."""
    for place in list(doctree.findall(page_card)):
        page = place["page"]
        uri = app.builder.get_relative_uri(docname, page)
        link = nodes.reference("", "", refuri=uri, internal=True)
        title = app.env.titles[page].astext()
        pictures = list(app.env.get_doctree(page).findall(nodes.image))
        if pictures:
            # The title beside it is its text.
            picture = nodes.image("", uri=pictures[-1]["uri"], alt="")
            picture["candidates"] = pictures[-1]["candidates"]
            link += picture
        link += nodes.strong("", title)
        link += nodes.inline("", place["words"])
        place.replace_self(nodes.paragraph("", "", link, classes=["card"]))


def offer_download(app: Any, doctree: nodes.document) -> None:
    """Link the notebook below the title of a page that has run."""
    ran = Path(app.env.mystnb_config.output_folder, f"{app.env.docname}.ipynb")
    if not ran.exists():
        return
    title = next(doctree.findall(nodes.title))
    target = "/" + os.path.relpath(ran, app.srcdir)
    link = download_reference("", reftarget=target)
    link += nodes.inline("", f"Download {ran.name}")
    title.parent.insert(
        title.parent.index(title) + 1,
        nodes.paragraph("", "", link, classes=["download"]),
    )
