"""What `digits` cannot be given."""

import numpy as np
import pytest
from bad_values import NOTHINGS
from walk import Call

from kfac_core import blocks
from kfac_core.reference import digits


def test_digits(walked, kinds, rng):
    pytest.importorskip("mparray")
    x, g = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    block = blocks.FullyConnectedKFACBasicFB(3, 2)
    numbers = {"too few": 16, "half": 17.5, "NaN": np.nan, "below zero": -20}
    walked(
        Call(
            "digits",
            digits,
            {
                "spec": block,
                "data": (x, g),
                "digits": 20,
                "vector": g[:3],
                "damping": 0.1,
                "ema_decay": 0.5,
            },
            {
                "spec": NOTHINGS | {"another spec": block.input_factor},
                "data": NOTHINGS
                | {"an empty tuple": (), "an array": x, "one": (x,)}
                | {name: (bad, g) for name, bad in kinds.data(x).items()},
                "digits": NOTHINGS | numbers,
                "vector": kinds.data(g[:3]),
                "damping": kinds.scalar(),
                "ema_decay": kinds.scalar() | {"above one": 1.5},
            },
            label=("digits", block.label),
            words={"data": ("inputs", "outputs_grads")},
        ).allowing("vector", "None", "an axis more")
    )
