"""The docstrings, comments and pages of the project are plain English.

A reader who looks up one argument reads one line, so that a line which stands for
another ("Likewise", "As there") tells them nothing. The patterns are the worst of what
was once written here.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (
    "kfac_core",
    "backends",
    "benchmarks",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "conftest.py",
    "noxfile.py",
)


class Pattern(NamedTuple):
    """What no line says.

    Attributes:
        pattern: A regular expression, whose case is ignored.
        instead: What to write.
        samples: Lines that it finds.
        others: Lines that it leaves.
    """

    pattern: str
    instead: str
    samples: tuple[str, ...]
    others: tuple[str, ...] = ()


PATTERNS = (
    Pattern(
        r"\blikewise\b",
        "repeat the half line",
        ("strides: Likewise.", "the gradients, likewise; or a tuple of these"),
    ),
    Pattern(
        r"\bas there\b(?! (?:is|are|was|were)\b)",
        "name where: as in `ConvKFCBasicFB`",
        ("padding: As there.", "Return the gradient; arguments as there."),
        ("as many terms as there are uses",),
    ),
    Pattern(
        r"\bas (?:that|those|these|this) (?:do(?:es)?|takes?|says?|has|have)\b",
        "name what does: as `register_convolution` takes it",
        ("padding: As that takes it.", "averages as those do"),
    ),
    Pattern(
        r"\bthat is over which\b",
        "along which ..., so that ... is summed",
        ("axes of the outputs, that is over which it is summed",),
    ),
    Pattern(
        r"\bas of then\b",
        "as of the last update",
        ("mean_weight: The mean weight as of then.",),
    ),
    Pattern(
        r"\bin the manner of\b",
        "as ... does",
        ("a block, in the manner of the constructors",),
    ),
    Pattern(
        r"\bthe original(?:'s\b|(?= (?:has|does|is|of|code|library|computes|takes)\b)"
        r"|(?=[.,;:)]))",
        "say tf.contrib.kfac",
        (
            "with the original's constructor",
            "as in the original.",
            "The original has no such function",
        ),
        ("in the original order", "of the original rows"),
    ),
    Pattern(
        r"(?:^\x20*|[.!?] |\"\"\"|# |\w: )(?-i:Of) (?=[a-z`$])",
        "subject, verb, object",
        (
            "Of a diagonal matrix the eigenvectors are a vector of ones.",
            "It is small. Of several losses the products have mean zero.",
            "    options: Of the optimiser.",
            "    # Of the power 1 alone.",
        ),
        ("the mean of all rows", "a number of cases: of all towers"),
    ),
    Pattern(
        r"\breturn of (?:how|what|which|whom?)\b",
        "return the number of cases",
        ("Return of how many cases the inputs are.",),
        ("the return of the function",),
    ),
    Pattern(
        r"\bas (?:it is|they are) now\b",
        "the current statistics",
        ("The state as it is now.", "the statistics as they are now"),
    ),
    Pattern(
        r"\bnot a number\b(?! here)",
        "say NaN",
        ("What is not known yet is not a number.",),
        ("a boolean is not a number here",),
    ),
    Pattern(
        r"\bsay (?:whether|yes|no)\b",
        "return whether",
        ("Say whether an array has rows.", "Say yes on accelerators alone."),
        ("the messages say where it is",),
    ),
    Pattern(
        r"\bif (?:it|that) is (?:(?-i:none)|another one|nothing of that)\b",
        "say what it is not: if `spec` is not a loss",
        ("ArgumentError: If it is none.", "ShapeError: If it is another one."),
        ("If it is not a loss.",),
    ),
)
"""The worst patterns; case is ignored, and a space may be a line break."""


def files() -> Iterator[Path]:
    """Yield the sources and pages of the project, without what is built."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", *PLACES],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        listed = []
    paths = [ROOT / name for name in listed if name]
    if not paths:
        places = [ROOT / name for name in PLACES]
        paths = [
            path
            for place in places
            for path in ([place] if place.is_file() else sorted(place.rglob("*")))
        ]
    for path in paths:
        if path.suffix in {".py", ".md"} and path.is_file():
            yield path


def found(pattern: Pattern, text: str) -> Iterator[int]:
    """Yield the numbers of the lines at which the pattern ends."""
    # Spaces stand for line breaks and the indentation after them, too.
    expression = pattern.pattern.replace(" ", r"(?:[ ]|\s*\n[ #]*)")
    for match in re.finditer(expression, text, re.IGNORECASE | re.MULTILINE):
        yield text.count("\n", 0, match.end()) + 1


every_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.instead)


@every_pattern
def test_no_docstring_comment_or_page_says_it(pattern):
    paths = list(files())
    assert len(paths) > 100

    hits = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        for line in found(pattern, path.read_text(encoding="utf-8"))
    ]

    assert not hits, f"{pattern.instead}: {', '.join(hits)}"


@every_pattern
def test_the_pattern_finds_its_samples_and_no_more(pattern):
    for sample in pattern.samples:
        assert list(found(pattern, f"Text.\n{sample}\n")) == [2], sample
        for k in [k for k, c in enumerate(sample) if c == " "]:
            broken = f"{sample[:k]}\n            {sample[k + 1 :]}"
            assert list(found(pattern, f"Text.\n{broken}\n")), broken
    for other in pattern.others:
        assert not list(found(pattern, f"Text.\n{other}\n")), other
