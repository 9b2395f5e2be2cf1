"""The examples run, at a reduced size; how well they train is not asked here."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*_torch.py"))
NEEDED = ("torch", "sklearn", "matplotlib")

RUN = """
import runpy, sys
from pathlib import Path

folder, pictures, *names = sys.argv[1:]
sys.path.insert(0, folder)
for name in names:
    sys.argv = [name, "--quick", "--picture", str(Path(pictures) / f"{name}.png")]
    runpy.run_path(str(Path(folder) / f"{name}.py"), run_name="__main__")
"""


@pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason="needs PyTorch, .[demo]")
def test_examples_of_pytorch_run_and_draw(tmp_path):
    # In one process for all, which has threads and warnings of its own.
    command = [sys.executable, "-c", RUN, str(FOLDER), str(tmp_path), *NAMES]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("picture: ") == len(NAMES) == 4
    for name in NAMES:
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert f"docs/examples/{name}.py" in (FOLDER / f"{name}.py").read_text("utf-8")
