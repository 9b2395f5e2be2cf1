"""Formulas of the pages: an accent stands over its letter, and indices beside both."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("docutils.utils.math.latex2mathml")


@pytest.fixture
def formula(monkeypatch):
    folder = Path(__file__).parents[2] / "docs" / "extensions"
    monkeypatch.syspath_prepend(str(folder))
    import mathml

    yield lambda text: "".join(map(str.strip, mathml.formula(text).splitlines()))
    sys.modules.pop("mathml", None)


TILDE = '<mover accent="true"><mi>x</mi><mo stretchy="false">~</mo></mover>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\tilde x_i", f"<msub>{TILDE}<mi>i</mi></msub>"),
        (r"\tilde x_i^2", f"<msubsup>{TILDE}<mi>i</mi><mn>2</mn></msubsup>"),
        (r"\tilde x^2", f"<msup><mrow>{TILDE}</mrow><mn>2</mn></msup>"),
        ("x_i^2", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
    ],
)
def test_indices_of_an_accented_letter_stand_beside_it(formula, text, expected):
    assert expected in formula(text)


def test_limits_of_sums_stay_where_they_are(formula):
    assert "<munderover><mo movablelimits" in formula(r"\sum_i^n x")


def test_names_of_functions_are_set_apart(formula):
    assert "\N{FUNCTION APPLICATION}" in formula(r"\log p")
