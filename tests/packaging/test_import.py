"""``import kfac_core`` is quick and loads nothing heavy."""

import subprocess
import sys

BUDGET = 5  # of the processor time of NumPy's own import, which is in it

SCRIPT = """
import sys, time
start = time.process_time()
import numpy
floor = time.process_time() - start
import kfac_core
used = (time.process_time() - start) / floor
heavy = {"torch", "jax", "cupy", "scipy", "sklearn", "matplotlib"}
print(used, *sorted(heavy & sys.modules.keys()))
"""


def measure(cwd):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    used, *loaded = done.stdout.split()
    return float(used), loaded


def test_import_loads_nothing_heavy(tmp_path):
    _, loaded = measure(tmp_path)
    assert loaded == []


def test_import_is_quick(tmp_path):
    # The least of several: what else the machine does only ever adds.
    assert min(measure(tmp_path)[0] for _ in range(7)) < BUDGET
