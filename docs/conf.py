"""Sphinx configuration. The build needs no network, and its pages need none either."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

project = "kfac_core"
author = "The kfac_core developers"
version = release = version_of("kfac_core")

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "extensions")]
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "gallery",
    "classes",
    "mathml",
    "outputs",
    "papers",
    "references",
]
exclude_patterns = ["_build"]
# `name` in a docstring links to the object, where there is one.
default_role = "py:obj"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_js_files = ["filter_tables.js"]
html_title = "kfac_core"
html_show_copyright = False
html_show_sphinx = False
html_math_renderer = "mathml"

autosummary_generate = False  # its tables alone: classes have their places already
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
# Fields are listed in the class's docstring, and not once more on their own.
napoleon_use_ivar = True

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_render_markdown_format = "gfm"


def setup(app: Any) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", convert_tables)


def skip_fields(
    app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of a NamedTuple: its own docstring lists them."""
    return True if type(member).__name__ == "_tuplegetter" else None


def convert_tables(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn the Markdown tables of docstrings into those of reStructuredText."""
    converted: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            converted.append(line)
        elif not set(line) <= set("|-"):
            if not converted or not converted[-1].startswith("     "):
                converted += [".. list-table::", "   :header-rows: 1", ""]
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            converted += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    lines[:] = converted
