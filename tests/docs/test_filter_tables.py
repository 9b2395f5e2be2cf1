"""The field above the tables of names shows the rows that have all its words."""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest
from test_check_pages import check_pages  # noqa: F401 - a fixture

DOCS = Path(__file__).parents[2] / "docs"
PAGE = """<!doctype html><meta charset="utf-8"><body>
<div class="filter-tables" data-label="find a name"></div>
<div class="table-wrapper"><table class="docutils"><thead><tr><th>was</th></tr>
</thead><tbody>
<tr><td><strong>DenseFactor</strong></td><td></td></tr>
<tr><td>tensors</td><td>update_cov</td></tr>
<tr><td>has_bias</td><td>the same</td></tr>
<tr><td><strong>ConvFactor</strong></td><td></td></tr>
<tr><td>padding</td><td>geometry</td></tr>
<tr><td><strong>OldFactor</strong></td><td>NewFactor</td></tr>
<tr><td><strong>Gone</strong></td><td></td></tr>
</tbody></table></div>
<div class="table-wrapper"><table class="docutils"><tbody>
<tr><td>minimize</td><td>step</td></tr></tbody></table></div>
"""
TRIED = """
addEventListener("load", () => {
    const field = document.querySelector("input"), found = {};
    const shown = () => [...document.querySelectorAll("td:first-child")]
        .filter(cell => cell.offsetParent).map(cell => cell.textContent);
    for (const words of ["", "BIAS", "conv", "dense cov", "newf", "nothing", " "]) {
        field.value = words;
        field.dispatchEvent(new Event("input"));
        found[words] = [shown(), document.querySelector("output").textContent];
    }
    document.body.innerHTML = "<pre id=found></pre>";
    document.querySelector("#found").textContent = JSON.stringify(found);
});
"""
ALL = [
    *("DenseFactor", "tensors", "has_bias", "ConvFactor", "padding", "OldFactor"),
    *("Gone", "minimize"),
]


def test_rows_with_all_words_stay_below_their_headings(check_pages, tmp_path):  # noqa: F811
    chromium = check_pages.browser()
    if chromium is None:
        pytest.skip("needs Chromium")
    script = (DOCS / "_static" / "filter_tables.js").read_text("utf-8")
    page = tmp_path / "page.html"
    page.write_text(f"{PAGE}<script>{script}{TRIED}</script></body>", "utf-8")
    done = subprocess.run(
        [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *(f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=10000"),
            *("--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    assert json.loads(html.unescape(found[1])) == {
        "": [ALL, ""],
        "BIAS": [["DenseFactor", "has_bias"], "1 of 6 rows"],
        "conv": [["ConvFactor", "padding"], "1 of 6 rows"],
        "dense cov": [["DenseFactor", "tensors"], "1 of 6 rows"],
        "newf": [["OldFactor"], "1 of 6 rows"],
        "nothing": [[], "0 of 6 rows"],
        " ": [ALL, ""],
    }


def test_the_page_of_names_asks_for_the_field():
    page = (DOCS / "from_tf_contrib_kfac.md").read_text("utf-8")
    assert '<div class="filter-tables"' in page
    assert "filter_tables.js" in (DOCS / "conf.py").read_text("utf-8")
