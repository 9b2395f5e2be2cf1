"""What the original got wrong, set right in what was recorded of it."""

from typing import Any

import numpy as np
from case import Case


def corrected(case: Case) -> Case:
    """Return a case as the right library gives it, asked in the form of all others.

    The original's factor of uncorrelated pixels has its rows in the order of channels,
    then offsets, where the parameters' matrix has offsets first; and under
    the assumption of a zero mean, its bias has the second moment 0 where it is 1.
    """
    if case.spec["class"] != "ConvInputSUAKroneckerFactor":
        return case
    damping = case.spec["damping"]
    queries: list[dict[str, Any]] = [
        {"method": "cov_dense"},
        {"method": "inverse", "damping": damping},
    ]
    cov, inverse = (
        offsets_first(case.outputs[name], case.spec["ctor"]["filter_shape"])
        for name in ("cov_dense", "inverse_dense")
    )
    if case.spec["assume_zero_mean_activations"] and case.spec["ctor"]["has_bias"]:
        np.testing.assert_allclose([cov[-1, -1], inverse[-1, -1]], [0, 1 / damping])
        cov[-1, -1], inverse[-1, -1] = 1, 1 / (1 + damping)
    return case._replace(
        spec={**case.spec, "queries": queries},
        outputs={"q/0": cov, "q/1": inverse},
    )


def offsets_first(matrix: np.ndarray, filter_shape: list[int]) -> np.ndarray:
    """Return a copy with rows and columns in the order of the parameters' matrix."""
    channels = filter_shape[-2]
    offsets = int(np.prod(filter_shape[:-2]))
    places = np.arange(channels * offsets).reshape(channels, offsets).T.ravel()
    bias = np.arange(channels * offsets, len(matrix))
    order = np.concatenate([places, bias])
    return matrix[np.ix_(order, order)]
