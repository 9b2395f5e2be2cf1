"""``import kfac_core`` does little work and loads nothing heavy.

Work is counted in calls of Python functions and in modules, which are the same in
every run and on every machine, in place of seconds. The calls by which Python finds
and reads a module are not: there are more where bytecode is kept, or a path is longer.
"""

import subprocess
import sys

CALLS = 0.75  # for each that NumPy's own import makes; 0.727 when it was written
MODULES = 1.95  # for each that NumPy's own import loads; 1.88 when it was written

SCRIPT = """
import sys

def work_of_importing(name):
    calls, before = 0, len(sys.modules)

    def count(frame, event, arg):
        nonlocal calls
        is_of_import = frame.f_code.co_filename.startswith("<frozen importlib")
        calls += event == "call" and not is_of_import

    sys.setprofile(count)
    try:
        __import__(name)
    finally:
        sys.setprofile(None)
    return calls, len(sys.modules) - before

floor = work_of_importing("numpy")
used = work_of_importing("kfac_core")
heavy = {"torch", "jax", "cupy", "scipy", "sklearn", "matplotlib"}
print(used[0] / floor[0], used[1] / floor[1], *sorted(heavy & sys.modules.keys()))
"""


def measure(cwd):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    calls, modules, *loaded = done.stdout.split()
    return float(calls), float(modules), loaded


def test_import_loads_nothing_heavy(tmp_path):
    _, _, loaded = measure(tmp_path)
    assert loaded == []


def test_import_does_less_than_numpys_own(tmp_path):
    calls, modules, _ = measure(tmp_path)
    assert calls < CALLS
    assert modules < MODULES
