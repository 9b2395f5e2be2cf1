"""The digits that are right are those that the dtype can have, and no others."""

import numpy as np
import pytest

from kfac_core import blocks, tree
from kfac_core.errors import ArgumentError
from kfac_core.reference import digits
from kfac_core.testing.families import FAMILIES


def cast(given, dtype):
    return tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, given)


DAMPING = 1e-2


def condition(block, data):
    """The size of the matrix of a block, and its condition with the damping."""
    state = block.update_covs(block.init(np.zeros(1)), *data, ema_decay=0.0)
    values = np.linalg.eigvalsh(block.full_fisher_block(state))
    return len(values), (values.max() + DAMPING) / DAMPING


@pytest.mark.parametrize(("dtype", "most"), [("float64", 17), ("float32", 8)])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_has_the_digits_of_its_dtype(name, dtype, most):
    """A solve loses at most its size times its condition, and a product its size."""
    pytest.importorskip("mparray")
    block, *given = FAMILIES[name]
    size, cond = condition(block, given[0])
    data, vector = (cast(part, dtype) for part in given)
    found = digits(block, data, vector=vector, damping=DAMPING)
    unit = np.finfo(dtype).eps
    assert -np.log10(unit * size * cond) < found.step < most
    assert -np.log10(unit * size) < found.fisher < most


def test_cancellation_costs_digits(rng):
    """Of inputs that are nearly equal, in a block of small damping."""
    pytest.importorskip("mparray")
    x, g, v = rng.normal(size=(3, 4, 4))
    x[:, 1] = x[:, 0] + 1e-6 * x[:, 1]
    block = blocks.FullyConnectedKFACBasicFB(4, 4)
    ill = digits(block, (x, g), vector=v, damping=1e-12)
    assert ill.step < 12 < 15 < ill.fisher


def test_without_a_vector_there_is_no_step(rng):
    pytest.importorskip("mparray")
    x, g = rng.normal(size=(2, 4, 4))
    found = digits(blocks.FullyConnectedKFACBasicFB(4, 4), (x, [g]), 20)
    assert found.step is None
    assert 14 < found.fisher <= 20


@pytest.mark.parametrize("wrong", [16, 0, 17.5, None])
def test_too_few_digits_are_refused(wrong):
    block = blocks.FullyConnectedKFACBasicFB(2, 2)
    with pytest.raises(ArgumentError, match=r"^digits: digits is .*, expected"):
        digits(block, (np.eye(2), np.eye(2)), wrong)
