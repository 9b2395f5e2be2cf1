"""The table of array libraries says how far a step is off, or what went wrong."""

import pytest

from benchmarks.arrays import LIBRARIES, STEPS, outcome, refused

STRICT = LIBRARIES[0]


@pytest.fixture(autouse=True)
def _strict():
    pytest.importorskip("array_api_strict")


def test_a_step_of_a_library_that_works_has_a_number():
    assert refused(STRICT) is None
    assert float(outcome(STRICT, "fully_connected_pi")) < 1e-13


def test_a_step_that_fails_has_its_error(monkeypatch):
    _, *given = STEPS["estimator"]

    def failing(data, params):
        if type(data[0]).__module__.startswith("array_api_strict"):
            raise ValueError("the first line\nand more")
        return params

    monkeypatch.setitem(STEPS, "estimator", (failing, *given))
    assert outcome(STRICT, "estimator") == "ValueError: the first line"
