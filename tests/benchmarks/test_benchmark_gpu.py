"""The script for a GPU runs through where there is none, and says what is missing."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.cases import UnavailableError
from benchmarks.gpu import cases, measured, waits
from benchmarks.libraries import load
from benchmarks.libraries.devices import on_device

ROOT = Path(__file__).parents[2]


def test_the_script_checks_and_measures_on_the_processor(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small"]
    command += ["--library", "torch", "--seconds", "240", "--json", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (torch,) = json.loads(file.read_text("utf-8"))
    assert torch["theorems"]["wrong"] == []
    assert torch["theorems"]["tried"] > 0
    assert {row["group"] for row in torch["rows"]} >= {"Inverses", "Convolutions"}
    assert all(row["ours"] > 0 and not row["floors"] for row in torch["rows"])
    assert [left for left in torch["left_out"] if "time" not in left["why"]] == []


def test_a_library_without_the_device_is_skipped_by_name(capsys):
    found = measured("cupy", "cpu", 1.0, small=True)
    assert "cupy" in found["skipped"]
    assert f"cupy: skipped, {found['skipped']}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_device_that_is_not_there_is_named(name):
    module = pytest.importorskip(name)
    there = module.cuda.is_available() if name == "torch" else module.default_backend()
    if there in (True, "gpu"):
        pytest.skip("there is a GPU")
    with pytest.raises(UnavailableError, match=f"{name} sees no CUDA device"):
        on_device(name, "cuda")


def test_waits_are_counted_by_those_who_can():
    assert waits(SimpleNamespace(name="jax")) is None
    pytest.importorskip("torch")
    assert waits(load("torch")) is None  # nobody waits for the processor


def test_the_list_of_work_is_that_of_a_gpu():
    pytest.importorskip("torch")
    names = [case.name for case in cases(load("torch"), small=False)]
    wanted = ("Gram", "3×3/1", "inverses, 1024", "64 factors", "768 to 3072", "Newton")
    assert all(any(part in name for name in names) for part in wanted)
