"""What `heat_maps` cannot be given."""

import numpy as np
from bad_values import NOTHINGS
from walk import Call

from kfac_core.reference import heat_maps


def test_heat_maps(walked, kinds):
    matrix = np.asarray([[2.0, 1.0], [1.0, 2.0]])
    nested = {f"in it: {name}": {"a": bad} for name, bad in kinds.data(matrix).items()}
    sizes = {"below": (3, -1), "half": (0.5, 1.5), "few": (1,)}
    flat = {"a row": {"a": matrix[0]}, "no rows": {"a": matrix[:0]}}
    walked(
        Call(
            "heat_maps",
            heat_maps,
            {
                "matrices": {"a": matrix},
                "borders": (1, 1),
                "columns": 1,
                "one_scale": True,
                "gamma": 0.5,
            },
            {
                "matrices": NOTHINGS
                | nested
                | flat
                | {"empty": {}, "an array": matrix},
                "borders": NOTHINGS | sizes,
                "columns": {"none at all": 0, "below": -1, "half": 0.5, "word": "two"},
                "gamma": {"zero": 0, "above": 1.5, "word": "root", "flag": True},
                "one_scale": {"number": 1, "word": "yes", "nothing": None},
            },
            label="heat_maps",
        ).allowing("matrices", "in it: another library")
    )
