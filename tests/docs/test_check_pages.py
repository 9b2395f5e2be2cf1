"""The check of built pages finds what is cut off, and links that lead nowhere."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "check_pages.py"

WIDE = "<p><code>" + "a_name_without_an_end_" * 30 + "</code></p>"

SEEN = {
    "scrolls": f'<div style="overflow-x: auto">{WIDE}</div>',
    "breaks": f'<div style="overflow-wrap: anywhere">{WIDE}</div>',
    "short": "<p>A short line.</p>",
}
UNSEEN = {
    "spills": WIDE,
    "hidden": f'<div style="overflow-x: hidden">{WIDE}</div>',
    "picture": '<img style="width: 2000px; height: 9px" src="none.png">',
}


@pytest.fixture(scope="module")
def check_pages():
    spec = importlib.util.spec_from_file_location("check_pages", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder, bodies):
    for name, body in bodies.items():
        page = f"<!doctype html><body><article>{body}</article></body>"
        (folder / f"{name}.html").write_text(page, encoding="utf-8")


def test_what_is_wider_than_its_place_needs_a_scroll_bar(check_pages, tmp_path):
    chromium = check_pages.browser()
    if chromium is None:
        pytest.skip("needs Chromium")
    write(tmp_path, SEEN | UNSEEN)
    names = [f"{name}.html" for name in SEEN | UNSEEN]

    found = check_pages.cut_off(tmp_path, names, chromium)

    pages = {line.partition(".html at ")[0] for line in found}
    assert pages == UNSEEN.keys()
    assert {line.partition(" px")[0][-5:].split()[-1] for line in found} == {
        "1280",
        "500",
    }


def test_a_link_leads_to_a_page_and_its_heading(check_pages, tmp_path):
    write(
        tmp_path,
        {
            "one": '<h1 id="a">A</h1><a href="#a"><a href="two.html#b"><a href="#c">',
            "two": '<h1 id="b">B</h1><a href="three.html"><a href="https://x.y/#z">',
        },
    )
    assert check_pages.dead_links(tmp_path) == [
        "one.html: no #c",
        "two.html: no three.html",
    ]
