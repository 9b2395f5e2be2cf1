"""The examples of several processes train on two of them."""

import os
import re
import socket
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


def on_processes(count):
    """Return the losses, and the numbers of the parameters, of processes of JAX."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, FOLDER / "ranks_jax.py", str(own), str(count), address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in range(count)
    ]
    ended = [each.communicate(timeout=280) for each in running]
    told = [re.findall(r": loss ([\d.]+), (\S+)", out) for out, _ in ended]
    assert all(told), [error for _, error in ended]
    return [(float(loss), float.fromhex(number)) for ((loss, number),) in told]


@pytest.mark.timeout(300)
def test_the_example_of_jax_trains_on_two_processes(jax):
    first, second = on_processes(2)
    assert first == second
    assert first[0] < 0.2
    if os.environ.get("HYPOTHESIS_PROFILE") == "nightly":
        ((loss, number),) = on_processes(1)
        assert loss == first[0]
        assert number == pytest.approx(first[1], rel=1e-8)
