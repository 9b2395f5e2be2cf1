"""Libraries are tried in processes of their own, and reported as one."""

import json
import os

import pytest

from kfac_core.__main__ import main
from kfac_core.errors import ArgumentError
from kfac_core.theorems import by_name
from kfac_core.verify import verify
from kfac_core.verify.side_by_side import SETTINGS, verify_side_by_side

LAST = by_name("T3a")

AS_NUMPY = "from numpy import asarray"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Make a module that the processes can import, as if it were a library."""
    monkeypatch.syspath_prepend(tmp_path)

    def made(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return made


def test_the_report_is_that_of_one_process():
    lines = []
    options = {"seed": 3, "theorems": [by_name("T8"), LAST]}
    found = verify_side_by_side(["numpy"], **options, progress=lines.append)
    expected = verify(["numpy"], **options)
    assert found.ok
    assert found.theorems == expected.theorems
    assert found.results == expected.results
    assert found.ratios == expected.ratios
    assert [run[:2] for run in found.runs] == [run[:2] for run in expected.runs]
    assert lines[0].startswith("0 of 2 done; numpy float64 ")


@pytest.mark.parametrize("tried", [verify, verify_side_by_side])
def test_a_library_that_is_named_twice_is_tried_once(tried):
    found = tried(["numpy", "numpy"], dtypes=["float64"], theorems=[LAST])
    assert [run[:2] for run in found.runs] == [("numpy", "float64")]


def test_a_refusal_is_the_error_of_the_command(capsys):
    assert main(["verify", "--library=numpy", "--device=cuda", "--dtype=float64"]) == 1
    told = "kfac-core verify: verify: device is 'cuda', and numpy cannot compute"
    assert capsys.readouterr().err.startswith(told)


def test_a_process_that_ends_is_told_in_full_and_others_are_tried(module):
    text = "import os, sys\nprint('no\\nmemory', file=sys.stderr, flush=True)\n"
    name = module("ends_itself", text + "os._exit(7)")
    report = verify_side_by_side(
        [name, "numpy"], dtypes=["float64"], theorems=[LAST], seed=1
    )
    assert not report.ok
    assert [own.ok for own in report.results] == [True]
    assert "FAILS: ends_itself float64: the process ended with 7:\n\nno\nmemory" in str(
        report
    )
    problem = json.loads(report.to_json())["runs"][0]["problem"]
    assert problem.endswith("no\nmemory")


def test_where_nothing_was_tried_the_table_says_so(module):
    name = module("ends_too", "import os; os._exit(0)")
    report = verify_side_by_side([name], dtypes=["float64"], theorems=[LAST])
    assert not report.ok
    assert "FAILS" in str(report)
    assert "the process ended with 0" in str(report)


def test_a_compiler_without_the_flags_is_tried_without(module, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    refuses = "import os\nif 'XLA_FLAGS' in os.environ:\n    print('Unknown flag in"
    refuses += " XLA_FLAGS', file=__import__('sys').stderr, flush=True)\n"
    name = module("without_flags", refuses + "    os._exit(1)\n" + AS_NUMPY)
    assert verify_side_by_side([name], dtypes=["float64"], theorems=[LAST]).ok


def test_the_settings_of_the_user_stay(module, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = dict(os.environ)
    says = "import os\nfound = [os.environ[f'{n}_NUM_THREADS'] for n in ('OMP',"
    name = module("says_threads", says + " 'OPENBLAS')]\nassert found == ['3', '1']")
    with pytest.raises(ArgumentError, match="library 'says_threads' has no arrays"):
        verify_side_by_side([name], dtypes=["float64"], theorems=[LAST])
    assert dict(os.environ) == before
    assert SETTINGS["OMP_NUM_THREADS"] == "1"
