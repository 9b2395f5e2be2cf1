"""The example of engines gives the state of one process, on each that is installed."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "engines.py"
MPIRUN = ("mpirun", "--oversubscribe", "--allow-run-as-root", "-n", "4")


def lacking(*names):
    missing = [name for name in names if not find_spec(name)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("engine", "start"),
    [
        ("pool", ()),
        pytest.param("dask", (), marks=lacking("dask", "distributed")),
        pytest.param(
            "mpi",
            MPIRUN,
            marks=[
                lacking("mpi4py"),
                pytest.mark.skipif(not shutil.which("mpirun"), reason="needs mpirun"),
            ],
        ),
    ],
)
def test_four_workers_give_the_state_of_one_process(engine, start):
    done = subprocess.run(
        [*start, sys.executable, EXAMPLE, engine],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    ((cases, difference),) = re.findall(r"(\d+) cases, difference (\S+)", done.stdout)
    assert int(cases) == 1000
    assert float(difference) < 1e-12
