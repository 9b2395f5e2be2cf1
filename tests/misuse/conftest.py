"""What the walks share: the cases of all factors and blocks, libraries, a record."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bad_values import Kinds
from walk import walk

for _folder in (
    "fisher_factors",
    "fisher_blocks",
    "loss_functions",
    "layer_collection",
    "estimator",
    "optimizer",
    "reference",
):
    sys.path.append(str(Path(__file__).parents[1] / _folder))


@pytest.fixture(scope="session")
def kinds():
    """The kinds of arguments that are arrays of NumPy."""
    return Kinds(np.array, other=_another("numpy"))


@pytest.fixture
def library_kinds(plain_library):
    """The kinds of arguments that are arrays of each library."""
    if plain_library.name != "strict":
        return Kinds(plain_library.asarray, other=_another(plain_library.name))
    import array_api_strict as strict

    device = strict.Device("device1")
    return Kinds(
        plain_library.asarray,
        other=np.array,
        there=lambda x: strict.asarray(np.array(x), device=device),
    )


def _another(library):
    if library != "numpy":
        return np.array
    try:
        import array_api_strict as strict
    except ImportError:
        return None
    return strict.asarray


@pytest.fixture
def walked(record_property):
    """Walk some calls; what was tried is in the table at the end of the run."""

    def walked(*calls):
        rows = [row for call in calls for row in walk(call)]
        assert rows
        record_property("walked", [[*row, n] for row, n in Counter(rows).items()])

    return walked
