"""The contract suite of backends and the demonstration, with wrong arguments."""

import numpy as np
import pytest
from bad_values import NOTHINGS, size
from walk import Call

import kfac_core as kc
from kfac_core.testing import Candidate, check_backend


def test_the_contract_of_backends(walked):
    right = {"backend": kc.load_backend("numpy"), "make_key": np.random.default_rng}
    wrong = NOTHINGS | {"class": type(right["backend"]), "module": np, "list": []}
    keys = {k: x for k, x in NOTHINGS.items() if k != "type"} | {"number": 1}
    faults = {"backend": wrong, "make_key": keys}
    walked(
        Call("Candidate", Candidate, right, faults),
        Call("check_backend", refused_by(check_backend, right), right, faults),
    )


def refused_by(function, right):
    """The function, which takes long where all is right: then it is not called."""

    def refused(**arguments):
        is_right = all(arguments[name] is right[name] for name in right)
        return None if is_right else function(**arguments)

    return refused


def test_the_demonstration(walked, tmp_path):
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    from kfac_core.demo import command

    right = {
        "backend_name": "numpy",
        "seed": 0,
        "epochs": 1,
        "out": tmp_path,
        "jit": False,
    }
    seeds = NOTHINGS | {"fraction": 0.5, "below": -1, "flag": True, "list": [1]}
    # Any text is a folder, and nothing is compiled where that is quick alone.
    folders = {k: x for k, x in NOTHINGS.items() if "string" not in k}
    flags = {k: x for k, x in NOTHINGS.items() if k != "None"}
    faults = {"backend_name": NOTHINGS | {"unknown": "scipy"}, "seed": seeds}
    faults |= {"epochs": size(), "out": folders | {"number": 1}, "jit": flags}
    words = {"backend_name": ("package",)}

    call = Call("demo", refused_by(command.demo, right), right, faults, words=words)
    walked(call)
