"""The benchmarks run, and what they say is well-formed; how fast is not asked here."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kfac_core as kc
from benchmarks.cases import agree
from benchmarks.frames import own_frames
from benchmarks.libraries import NAMES, load
from benchmarks.libraries.lapack import potri
from benchmarks.measuring import Pace, least
from benchmarks.report.five import FIVE, numbers
from benchmarks.report.page import UNBROKEN, page
from benchmarks.report.picture import draw
from benchmarks.report.results import read, rows
from benchmarks.report.terminal import duration
from benchmarks.work.growth import exponent

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A quick run on NumPy, as the command line makes it."""
    folder = tmp_path_factory.mktemp("benchmarks")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--library", "numpy"]
    command += ["--threads", "1", "--json", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Convolutions" in done.stdout
    (found,) = read(folder)
    return found


def test_a_run_measures_every_table(quick: dict) -> None:
    (run,) = quick["runs"]
    assert run["threads"] == 1
    assert run["clock"] == "processor"
    groups = {row["group"] for row in run["rows"]}
    groups |= {case["group"] for case in run["skipped"]}
    assert len(groups) == 8
    for row in run["rows"]:
        times = [row["ours"], *row["floors"].values(), *row["others"].values()]
        assert all(np.isfinite(times)), row["name"]
        assert min(times) > 0, row["name"]
    for work in run["growth"]:
        assert len(work["sizes"]) == len(work["seconds"])
        assert np.isfinite(work["exponent"])
    assert {"python", "numpy", "kfac_core"} <= quick["machine"]["versions"].keys()


def test_networks_are_summed_over_all_their_layers(quick: dict) -> None:
    found = rows(quick)
    wholes = [row for row in found if ", all" in row.name]
    assert [row.name.split(", all ")[1] for row in wholes] == ["53 layers", "49 layers"]
    parts = [row for row in found if row.part_of and row.part_of in wholes[0].name]
    ours = sum(row.count * row.seconds[0] for row in parts)
    assert wholes[0].seconds == pytest.approx((ours,))
    for place, kind in enumerate(("inv", "Cholesky")):
        (slower,) = wholes[0].others[f"as peers write it, {kind}"]
        theirs = sum(
            row.count * row.seconds[0] * [*row.others.values()][place][0]
            for row in parts
        )
        assert slower == pytest.approx(theirs / ours)


def test_what_was_measured_becomes_a_page_and_a_picture(
    quick: dict, tmp_path: Path
) -> None:
    text = page([quick]).replace(UNBROKEN, " ")
    for row in rows(quick):
        assert row.name in text
    draw(tmp_path / "benchmarks.png", quick)
    assert (tmp_path / "benchmarks.png").stat().st_size > 10_000


def test_the_page_begins_with_five_numbers() -> None:
    recorded = read()
    for found in recorded:
        of_library = numbers(found)
        assert len(of_library) == len(FIVE) == 5
        assert None not in of_library
        assert min(of_library) < 1 < max(of_library), "losses are among them"
        (own,) = (row for row in rows(found) if row.name == "update_inverses, 1024")
        assert min(first for first, *_ in own.others.values()) in of_library
    top, *_ = page(recorded).partition("## In pictures")
    assert all(question.text in top for question in FIVE)


def test_the_page_says_on_how_many_threads_it_was_measured(quick: dict) -> None:
    once = "All is measured on 1 thread by processor time."
    assert once in page([quick])
    two = quick["runs"][0] | {"threads": 2, "clock": "wall"}
    twice = quick | {"runs": [*quick["runs"], two]}
    both = "on 1 thread by processor time and on 2 threads by wall time."
    assert f"All is measured {both}" in page([twice])
    of_torch = f"Measured are NumPy on 1 thread by processor time; PyTorch {both}"
    assert of_torch in page([quick, twice | {"library": "torch"}])


def test_peaks_of_memory_include_the_result(quick: dict) -> None:
    peaks = [row["memory"] for row in quick["runs"][0]["rows"] if row["memory"]]
    assert peaks
    for peak in peaks:
        assert min(peak.values()) >= peak["result"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_peak_is_that_of_all_memory_whoever_gave_it(name: str) -> None:
    pytest.importorskip(name)
    library = load(name)
    x = library.array(np.ones(2**18, np.float32))
    size = 4 * 2**18

    def sums(x: Any) -> Any:  # of memory that the library gave
        return (x @ x) * x

    def given(x: Any) -> Any:  # of memory that NumPy gave
        kept = np.zeros(2**18, np.float32)
        return kc.backend_of(x).xp.asarray(kept) + x

    assert library.peak(sums, x) == pytest.approx(size, rel=0.02)
    if name != "jax":  # what is known to its compiler is no memory of the run
        assert library.peak(given, x) == pytest.approx(2 * size, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_ways_to_an_inverse_give_the_whole_inverse(name: str) -> None:
    pytest.importorskip(name)
    library = load(name)
    x = np.random.default_rng(0).standard_normal((40, 10))
    a = (x.T @ x).astype(np.float32)
    inverse = np.linalg.inv(a.astype(np.float64))
    bound = 10 * np.finfo(np.float32).eps * np.linalg.cond(a) * np.abs(inverse).max()
    assert library.cholesky_inverses
    for way in library.cholesky_inverses.values():
        np.testing.assert_allclose(way(library.array(a)), inverse, atol=bound)
    np.testing.assert_allclose(np.triu(potri(a)), np.triu(inverse), atol=bound)


def test_the_page_is_that_of_the_recorded_results() -> None:
    recorded = read()
    assert recorded
    assert not any(found["quick"] for found in recorded)
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf-8") == page(recorded)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_exponents_are_those_of_power_laws(power: float) -> None:
    sizes = [100, 200, 300, 800]
    assert exponent(sizes, [3e-4 * n**power for n in sizes]) == pytest.approx(power)
    rng = np.random.default_rng(0)
    noisy = [n**power * np.exp(0.02 * rng.standard_normal()) for n in sizes]
    assert exponent(sizes, noisy) == pytest.approx(power, abs=0.05)


def test_the_least_of_several_turns_counts() -> None:
    now, taken = (
        [0.0],
        {"a": itertools.cycle([3.0, 1.0, 2.0]), "b": itertools.repeat(5)},
    )
    calls = []

    def take(name: str) -> None:
        calls.append(name)
        now[0] += next(taken[name])

    found = least(
        {"a": lambda: take("a"), "b": lambda: take("b")},
        lambda: now[0],
        Pace(turn=0.0, turns=6, seconds=0.0),
    )
    assert found == {"a": 1.0, "b": 5.0}
    assert "".join(calls).endswith("abab"), "they take turns"


def test_ways_that_differ_are_not_compared() -> None:
    a = np.eye(3)
    agree("itself", a, a * (1 + 1e-6))
    with pytest.raises(AssertionError, match=r"twice.*differ by 5\.0e-01"):
        agree("twice", a, 2 * a)
    with pytest.raises(AssertionError, match="other shape"):
        agree("other shape", a, np.eye(2))


def test_durations_have_three_digits_and_a_unit() -> None:
    seconds = [12.3456, 0.0123456, 1.23456e-4, 9.9e-7]
    assert list(map(duration, seconds)) == ["12.3 s", "12.3 ms", "123 µs", "0.99 µs"]


def test_functions_of_ours_are_counted_and_no_others() -> None:
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
    assert own_frames(lambda: np.ones((2, 2)).mean()) == 0
    assert own_frames(lambda: block.init(np.ones(1))) > 10
    assert sys.getprofile() is None
