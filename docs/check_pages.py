"""Check every page of the built documentation: what it links to, and what it cuts off.

    python docs/check_pages.py docs/_build/html

Each link to a page or a heading of the documentation must lead there. Then a browser
lays out each page at the widths of a desk and of a telephone. What is wider than its
place must have a scroll bar of its own: this fails where a page as a whole, or the text
of a block, is wider than what a reader sees. Chromium is looked for on the path; where
there is none, the pages are not measured, and a line says so.
"""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WIDTHS = (1280, 500)
"""Pixels of a window on a desk, and of one on a telephone."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

MEASURE = Path(__file__).with_suffix(".js")


def browser() -> str | None:
    """Return the path of a browser, or None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Anchors(HTMLParser):
    """The ids of a page, and where its links lead."""

    def __init__(self, page: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the id and the link of an element."""
        for key, value in attrs:
            if key == "id" and value:
                self.ids.add(value)
            elif key == "href" and value and tag == "a":
                self.links.add(value)


def dead_links(folder: Path) -> list[str]:
    """Return a line for each link to a page, file or heading that does not exist."""
    pages = {page: Anchors(page) for page in sorted(folder.resolve().rglob("*.html"))}
    dead = []
    for page, anchors in pages.items():
        for link in sorted(anchors.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            target = (page.parent / path).resolve() if path else page
            known = pages[target].ids if target in pages else set()
            if not target.exists() or (
                parts.fragment and unquote(parts.fragment) not in known
            ):
                dead.append(f"{page.relative_to(folder.resolve())}: no {link}")
    return dead


def cut_off(folder: Path, names: Iterable[str], chromium: str) -> list[str]:
    """Return a line for each block that is wider than what a reader sees of it.

    Args:
        folder: The folder with the pages.
        names: The pages, relative to the folder.
        chromium: The path of the browser.

    Raises:
        RuntimeError: If the browser does not come to an end of the pages.
    """
    root = f"{folder.resolve().as_uri()}/"
    values = {"NAMES": list(names), "WIDTHS": WIDTHS, "ROOT": root}
    script = "\n".join(f"const {k} = {json.dumps(v)};" for k, v in values.items())
    with tempfile.TemporaryDirectory() as away:
        harness = Path(away) / "harness.html"
        harness.write_text(
            f'<!doctype html><meta charset="utf-8"><body><script>{script}\n'
            f"{MEASURE.read_text(encoding='utf-8')}</script></body>",
            encoding="utf-8",
        )
        done = subprocess.run(
            [
                *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu"),
                *("--allow-file-access-from-files", f"--user-data-dir={away}/profile"),
                *("--window-size=1400,900", "--virtual-time-budget=600000"),
                *("--dump-dom", harness.as_uri()),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        message = f"{chromium} measured no pages: {done.stderr[-2000:]}"
        raise RuntimeError(message)
    return [
        f"{name} at {width} px: {kind}: {what}"
        for name, width, kind, what in json.loads(html.unescape(found[1]))
    ]


def main(folder: Path) -> int:
    """Print the faults of all pages, and return the status of the process."""
    names = sorted(str(page.relative_to(folder)) for page in folder.rglob("*.html"))
    if not names:
        print(f"{folder} has no pages: nox -s docs builds them", file=sys.stderr)
        return 2
    found = dead_links(folder)
    chromium = browser()
    if chromium is None:
        print(f"widths: skipped, as none of {', '.join(BROWSERS)} is on the path")
    else:
        found += cut_off(folder, names, chromium)
    print("\n".join([*found, f"{len(names)} pages, {len(found)} faults"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
