"""``import kfac_core`` does little work and loads nothing heavy.

Work is counted in calls of Python functions, which are the same in every run and on
every machine, in place of seconds.
"""

import subprocess
import sys

BUDGET = 1  # calls for each that NumPy's own import makes; 0.93 when it was written

SCRIPT = """
import sys

def calls_of_importing(name):
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        __import__(name)
    finally:
        sys.setprofile(None)
    return calls

floor = calls_of_importing("numpy")
used = calls_of_importing("kfac_core")
heavy = {"torch", "jax", "cupy", "scipy", "sklearn", "matplotlib"}
print(used / floor, *sorted(heavy & sys.modules.keys()))
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


def test_import_does_less_than_numpys_own(tmp_path):
    used, _ = measure(tmp_path)
    assert used < BUDGET
