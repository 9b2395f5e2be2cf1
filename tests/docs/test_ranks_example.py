"""The example of several processes trains on two of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.timeout(300)
def test_the_example_trains_on_two_processes(torch, tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, FOLDER / "ranks_ddp.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    (loss,) = re.findall(r"loss ([\d.]+) on 2 ranks", done.stdout)
    assert float(loss) < 0.2
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["optimizer"]["kfac"]["steps"] == 10 * 8
