"""The commands, as a user types them, but for the number of epochs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kfac_core.__main__ import main

NAMES = ("SGD with momentum", "Adam", "K-FAC", "K-FAC, adaptive")


@pytest.fixture
def numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    assert main(["demo", "--epochs", "2", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for name in NAMES:
        assert printed.count(name) > 2, "each run, and a row of the table"
    image = (tmp_path / "out" / "digits.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    return json.loads((tmp_path / "out" / "digits.json").read_text())


def test_demo_trains_every_setting_and_kfac_leads(numbers: list[dict]) -> None:
    assert len(numbers) == 14
    last = {name: [] for name in NAMES}
    for run in numbers:
        first, *_, end = run["epochs"]
        assert [epoch["steps"] for epoch in run["epochs"]] == [0, 11, 22]
        # A network that knows nothing has the loss log 10; all learn something.
        assert first["loss"] > 2
        assert end["loss"] < first["loss"]
        last[run["optimizer"]].append(end["loss"])
    best = {name: min(losses) for name, losses in last.items()}
    for name in ("K-FAC", "K-FAC, adaptive"):
        assert best[name] < best["Adam"]
        assert best[name] < best["SGD with momentum"]


def test_damping_is_told_and_adapted(numbers: list[dict]) -> None:
    for run in numbers:
        stats = [epoch["stats"].get("damping") for epoch in run["epochs"]]
        if run["optimizer"] == "K-FAC, adaptive":
            # Twenty-two steps, adapted at every fifth.
            assert stats[0] == pytest.approx(run["damping"], rel=1e-6)
            factors = np.log(stats[-1] / stats[0]) / np.log(0.95**5)
            assert factors == pytest.approx(round(factors), abs=1e-4)
            assert 0 < abs(round(factors)) <= 4
        elif run["optimizer"] == "K-FAC":
            assert stats == pytest.approx([run["damping"]] * 3, rel=1e-6)
        else:
            assert stats == [None] * 3


def test_info_names_versions_backends_and_blas(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In a process of its own: it loads every library there is.
    done = subprocess.run(
        [sys.executable, "-m", "kfac_core", "info"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    for name in ("Python", "kfac_core", "numpy", "torch", "jax", "cupy", "BLAS"):
        assert name in done.stdout


@pytest.mark.parametrize("epochs", ["0", "-3", "many"])
def test_epochs_must_be_positive(
    epochs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["demo", "--epochs", epochs])
    assert exit_status.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_what_the_demo_lacks_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [name for name in sys.modules if name.startswith("kfac_core.demo")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["demo"]) == 1
    assert "pip install 'kfac_core[demo]'" in capsys.readouterr().err
