"""What `compare` cannot be given."""

import numpy as np
from bad_values import NOTHINGS
from walk import Call

from kfac_core.reference import compare


def test_compare(walked, kinds):
    truth = np.asarray([[2.0, 1.0], [1.0, 2.0]])
    wrong = kinds.data(truth) | {"zeros": truth * 0, "not symmetric": np.triu(truth)}
    gradient = np.ones(2)
    nested = {f"in it: {name}": {"a": bad} for name, bad in kinds.data(truth).items()}
    numbers = {"zero": 0, **kinds.scalar()}
    sizes = {"below": (3, -1), "half": (0.5, 1.5), "few": (1,)}
    walked(
        Call(
            "compare",
            compare,
            {
                "matrices": {"a": truth},
                "truth": truth,
                "damping": 0.1,
                "gradient": gradient,
                "borders": (1, 1),
            },
            {
                "matrices": NOTHINGS | nested | {"empty": {}, "an array": truth},
                "truth": wrong,
                "damping": numbers,
                "gradient": kinds.data(gradient),
                "borders": NOTHINGS | sizes,
            },
            label="compare",
        )
        .allowing("gradient", "None", "another library")
        .allowing("truth", "another library")
        .allowing("matrices", "in it: another library")
    )
