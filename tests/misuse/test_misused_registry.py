"""What finds and loads backends, given what is none."""

import numpy as np
import pytest
from bad_values import NOTHINGS
from walk import Call

import kfac_core as kc


def test_backends_of_arrays(walked, kinds):
    objects = {"objects": np.asarray([None, 1], dtype=object)}
    with pytest.warns(PendingDeprecationWarning):
        matrices = {"matrix": np.matrix([[1.0]]), "masked": np.ma.ones(2)}
    texts = {"text": np.asarray(["a"]), "dates": np.asarray(["2020"], dtype="M8")}
    faults = NOTHINGS | objects | matrices | texts | {"list": [1.0], "number": 1.0}
    faults |= {"class": np.ndarray, "tuple": (np.ones(1),)}
    faults |= {"another library": kinds.other(np.ones(2))}
    first = np.ones(2)
    walked(
        Call(
            "backend_of",
            lambda x: kc.backend_of(first, x),
            {"x": np.ones(2)},
            {"x": faults},
            words={"x": ("array",)},
        )
    )
    with pytest.raises(kc.errors.BackendError, match="at least one array"):
        kc.backend_of()


def test_backends_by_name(walked):
    faults = NOTHINGS | {"list": [], "unknown": "scipy", "array": np.ones(2)}
    faults |= {"number": 1, "module": np}
    call = Call(
        "load_backend", kc.load_backend, {"package": "numpy"}, {"package": faults}
    )
    walked(call)
