"""``kfac-core verify`` tells what holds, what fails, and by its exit status."""

import importlib
import json

import numpy as np
import pytest

from kfac_core.__main__ import main
from kfac_core.errors import ArgumentError
from kfac_core.linalg import psd
from kfac_core.registry import load_backend
from kfac_core.testing.matrices import GATE, columns, inverse_ratio
from kfac_core.theorems import GENERAL, Measured, Theorem, Trial, by_name
from kfac_core.verify import installed, lapack, verify
from kfac_core.verify.lapack import ratios

LAST = by_name("T3a")


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    """Residuals are computed in extended precision, which takes its time."""
    monkeypatch.setattr(lapack, "SIZES", (1, 10, 33))


def made(name, measured, twin=None):
    """A theorem that measures what it is told."""
    return Theorem(
        name,
        "a condition",
        "a claim",
        "a source",
        "no condition" if twin else "",
        lambda trial, holds: Measured(*(measured if holds else twin)),
    )


HOLDS = made("H", (1e-16, 1e-14), (1.0, 1e-14))
FALSE = made("F", (1e-3, 1e-14), (1.0, 1e-14))
EMPTY = made("E", (1e-16, 1e-14), (2e-14, 1e-14))
NAN = made("N", (float("nan"), 1e-14))


def raises(trial, holds):
    raise RuntimeError("no such operation")


BROKEN = Theorem("B", "a", "b", "c", "", raises)


def report_of(*theorems):
    return verify(["numpy"], dtypes=["float64"], theorems=theorems)


def test_what_holds_is_told():
    report = report_of(LAST, HOLDS)
    assert report.ok
    assert "numpy float64: 2 of 2 theorems hold and their twins do not" in str(report)
    assert "last layer, any features" in str(report)
    assert str(report).count(" holds ") >= 2


@pytest.mark.parametrize(
    ("theorem", "told"),
    [
        (FALSE, "FAILS: F, numpy float64: error 0.001, bound 1e-14"),
        (EMPTY, "FAILS: E, numpy float64: error 1e-16, bound 1e-14, twin Measured"),
        (NAN, "FAILS: N, numpy float64: error nan"),
        (BROKEN, "FAILS: B, numpy float64: RuntimeError: no such operation"),
    ],
    ids=["false", "a twin that holds", "nan", "raises"],
)
def test_what_fails_is_told(theorem, told):
    report = report_of(HOLDS, theorem)
    assert not report.ok
    assert told in str(report)
    assert [result.ok for result in report.results] == [True, False]


def test_the_worst_of_all_libraries_stands_in_the_table():
    errors = iter([1e-16, 1e-9])
    either = Theorem(
        "X",
        "a",
        "b",
        "c",
        "",
        lambda trial, holds: Measured(next(errors), 1e-10),
        general_only=True,
    )
    report = verify(["numpy"], theorems=[either])
    assert report.worst(either).dtype == "float32"
    assert "1.0e-09  1.0e-10 FAILS" in str(report)


def test_json_has_all_numbers():
    report = report_of(LAST)
    found = json.loads(report.to_json())
    (theorem,), (result,) = found["theorems"], found["results"]
    assert theorem["source"] == LAST.source
    assert result["error"] == report.results[0].error
    assert result["twin"]["error"] > 0.01
    assert {ratio["operation"] for ratio in found["ratios"]} > {"inverse", "power -1/2"}


def test_markdown_has_two_tables():
    theorems, found = report_of(LAST).to_markdown().split("\n\n")
    header, _, row = theorems.split("\n")
    assert header.count("|") == row.count("|") == 7
    assert found.count("\n") == 7


def test_the_command_prints_and_its_status_tells(monkeypatch, capsys):
    command = importlib.import_module("kfac_core.verify.command")
    for theorem, status in ((HOLDS, 0), (FALSE, 1)):
        found = report_of(theorem)
        monkeypatch.setattr(command, "verify", lambda *a, f=found, **k: f)
        assert main(["verify", "--as-is", "--json"]) == status
        assert json.loads(capsys.readouterr().out)["ok"] is (status == 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--library", "nosuch"],
            "library is 'nosuch', expected one that is installed",
        ),
        (["--library", "json"], "library 'json' has no arrays, expected one of"),
        (["--library", "numpy", "--device", "cuda"], "device is 'cuda', and numpy"),
        (["--library", "numpy", "--seed", "-1"], "seed is -1, expected an integer"),
    ],
    ids=["library", "module", "device", "seed"],
)
def test_what_is_not_there_is_told(arguments, told, capsys):
    assert main(["verify", "--as-is", *arguments]) == 1
    assert f"kfac-core verify: verify: {told}" in capsys.readouterr().err


def test_a_dtype_is_one_of_two():
    with pytest.raises(ArgumentError, match=r"expected some of .'float64', 'float32'"):
        verify(["numpy"], dtypes=["float16"])


def test_a_device_of_pytorch_that_is_not_there_is_told(needed):
    needed("torch")
    with pytest.raises(ArgumentError, match="device is 'nosuch', and torch cannot"):
        verify(["torch"], device="nosuch", theorems=[])


def test_libraries_of_the_standard_are_tried_by_name(needed):
    needed("strict")
    assert verify(["array_api_strict"], dtypes=["float64"], theorems=[LAST]).ok
    assert "numpy" in installed()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ratios_are_small_and_see_what_is_wrong(dtype):
    backend = load_backend("numpy")
    found = ratios("numpy", Trial(backend, dtype, sizes=GENERAL))
    assert all(own.holds and own.ratio > 0.01 for own in found), found

    class Worse(type(backend)):
        def damped_inverse(self, a, damping):
            exact = super().damped_inverse(a, damping)
            return exact * np.asarray(1 + 1e-3, exact.dtype)

    worse = Worse(backend.xp, "numpy")
    failed = [own for own in ratios("w", Trial(worse, dtype)) if not own.holds]
    assert [own.operation for own in failed] == ["inverse"]
    assert failed[0].ratio > 10 * GATE


def two_clusters(order, condition=1e14):
    """Return a matrix with half of its eigenvalues at one, and half at the least."""
    q, _ = np.linalg.qr(np.random.default_rng(13).standard_normal((order, order)))
    values = np.where(np.arange(order) < order / 2, 1, 1 / condition)
    matrix = (q * values) @ q.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("order", [63, 127])
def test_an_inverse_factor_is_one_on_the_side_that_it_is_solved_on(order):
    """And in products with the matrix; no algorithm bounds both sides."""
    matrix, backend = two_clusters(order), load_backend("numpy")
    factor = backend.cholesky(matrix)
    inverse = psd.cholesky_inverse(backend, factor)
    solved = inverse_ratio(factor, inverse)
    assert solved < 1
    assert inverse_ratio(inverse, factor) > 1e3 * solved
    x, a, one = (y.astype(np.longdouble) for y in (inverse, matrix, np.eye(order)))
    rounding = order * np.finfo(float).eps / 2 * np.linalg.cond(matrix)
    assert np.abs(x @ a @ x.T - one).max() < rounding


def test_residuals_of_large_matrices_are_those_of_some_columns():
    order = 300
    matrix = two_clusters(order, 1e3)
    inverse = np.linalg.inv(matrix)
    assert 0 < inverse_ratio(matrix, inverse) < GATE
    assert inverse_ratio(matrix, inverse * (1 + 1e-3)) > GATE
    assert len(columns(order)) == 16


def test_thorough_ratios_have_more_orders(monkeypatch):
    running = importlib.import_module("kfac_core.verify.running")
    monkeypatch.setattr(running, "THOROUGH", (3,))
    found = verify(["numpy"], dtypes=["float64"], theorems=[], thorough=True).ratios
    assert {own.matrix.split()[-1] for own in found} == {"3"}
