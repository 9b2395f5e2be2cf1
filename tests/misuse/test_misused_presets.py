"""The conversions to other libraries, with each argument as it cannot be."""

import numpy as np
from bad_values import NOTHINGS, choice
from walk import Call

import kfac_core as kc
from kfac_core import presets

BLOCK = kc.blocks.FullyConnectedKFACBasicFB(2, 1, name="some/layer")
COUNTS = NOTHINGS | {
    "zero": 0,
    "below": -1,
    "NaN": np.nan,
    "infinity": np.inf,
    "flag": True,
    "list": [2],
    "array": np.ones(2),
    "digit": "3",
}


NAMES = choice("Curvlinops", "curvlinops ")
NUMBERS = {"num_cases": COUNTS, "num_outputs": COUNTS}


def test_conversions_to_other_libraries(walked):
    x = np.ones((3, 2))
    state = BLOCK.update_covs(BLOCK.init(like=x), x, x[:, :1], 0.5)
    factors = {"block": BLOCK, "state": state, "to": "curvlinops"}
    damping = {"name": "curvlinops", "damping": 0.1, "layer": presets.layer_of(BLOCK)}
    counts = {"num_cases": 3, "num_outputs": 1}
    of_factors = NUMBERS | {"to": NAMES, "block": NOTHINGS}
    of_damping = NUMBERS | {
        "name": NAMES,
        "damping": {name: x for name, x in COUNTS.items() if name != "zero"},
        "layer": NOTHINGS,
        "positions": {k: x for k, x in COUNTS.items() if k != "None"},
        "rule": {k: x for k, x in NAMES.items() if k != "None"},
    }
    words = {"to": ("convention",), "name": ("convention",)}
    walked(
        Call(
            "convention",
            presets.convention,
            {"name": "curvlinops"},
            {"name": NAMES},
            words=words,
        ),
        Call("convert", presets.convert, factors | counts, of_factors, words=words),
        Call(
            "damping_like",
            presets.damping_like,
            damping | counts | {"positions": 1, "rule": None},
            of_damping,
            words=words,
        ),
    )
