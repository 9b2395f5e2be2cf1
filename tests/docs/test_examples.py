"""The examples of the documentation that are not run when it is built: run here."""

import functools
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^% needs (\w+)\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(library, code, id=f"{page.stem}-{library}-{i}")
    for page in sorted(DOCS.glob("*.md"))
    for i, (library, code) in enumerate(BLOCK.findall(page.read_text("utf-8")))
]


def test_examples_are_found():
    assert len(EXAMPLES) >= 5


# PyTorch's compiler warns of its own past.
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("library", "code"), EXAMPLES)
def test_example_runs(library, code, needed, monkeypatch):
    module = needed(library)
    if library == "torch":
        # Traced as ever, but run without a C++ compiler.
        traced = functools.partial(module.compile, backend="aot_eager")
        monkeypatch.setattr(module, "compile", traced)
    exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})
