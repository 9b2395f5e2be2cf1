"""The tables of `docs/other_libraries.md` are those of the code.

Written anew by ``python tests/presets/test_other_libraries_page.py``.
"""

import re
from pathlib import Path

import pytest

from kfac_core.presets import CONVENTIONS

PAGE = Path(__file__).parents[2] / "docs" / "other_libraries.md"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables():
    numbers = [
        [
            f"`{name}`",
            own.version,
            kind,
            str(s.inputs),
            str(s.gradients or "identity"),
            str(s.block),
        ]
        for name, own in CONVENTIONS.items()
        for kind, s in own.scalings.items()
    ]
    layout = [
        [
            f"`{name}`",
            own.bias,
            "channels first" if own.channels_first else "channels last",
            "kron(G, A)" if own.outputs_first else "kron(A, G)",
            own.damping + (", over scale" if own.per_scale else ""),
        ]
        for name, own in CONVENTIONS.items()
    ]
    return {
        "numbers": table(["name", "version", "kind", "A", "G", "block"], numbers),
        "layout": table(["name", "bias", "patches", "block", "damping"], layout),
    }


def between(name):
    return re.compile(rf"(<!-- table: {name} -->\n)(.*?)(<!-- end -->)", re.S)


@pytest.mark.parametrize("name", ["numbers", "layout"])
def test_the_table_is_that_of_the_code(name):
    found = between(name).search(PAGE.read_text())
    assert found[2].strip() == tables()[name]


if __name__ == "__main__":
    text = PAGE.read_text()
    for name, body in tables().items():
        text = between(name).sub(rf"\g<1>\n{body}\n\n\g<3>", text)
    PAGE.write_text(text)
