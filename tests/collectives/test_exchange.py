"""Sums of the states of ranks are the sums of all, for every block that says so."""

import numpy as np
import pytest
from block_case import NumPy, flat
from more_cases import BLOCK_CASES
from shards import assert_same, close, numbers, of_shards, seen

import kfac_core as kc
from kfac_core import backend_of
from kfac_core.collectives.exchange import exchanged
from kfac_core.collectives.packing import packed, unpacked

SIZE = 9
NO_SUMS = {
    *("kronecker-optimal", "shampoo", "tnt", "soap"),
    *("conv-pixels", "conv-pixels-bias", "dense-wide"),
}
"""Blocks that are fitted, and forms whose averages are no sums."""
CASES = {
    name: case
    for name, case in BLOCK_CASES.items()
    if case.axis is not None and name != "sampled"
}


def parts_of(spec, state, kind):
    """Return the arrays of a kind, and whether each is symmetric."""
    found = []

    def visit(x, part):
        if getattr(part, kind):
            found.append((x, part.is_symmetric))
        return x

    exchanged(spec, state, visit)
    return [x for x, _ in found], [s for _, s in found]


def replaced(spec, state, kind, arrays):
    rest = iter(arrays)
    return exchanged(
        spec, state, lambda x, part: next(rest) if getattr(part, kind) else x
    )


def states(name, rng):
    case = CASES[name]
    spec, data = case.made(), case.draw(rng, SIZE)
    return case, spec, data, of_shards(case, spec, data, [2, SIZE], SIZE)


@pytest.mark.parametrize("name", sorted(CASES.keys() & NO_SUMS))
def test_what_is_no_sum_is_refused(name, rng):
    _, spec, _, (state, *_) = states(name, rng)
    with pytest.raises(kc.errors.UnsupportedError, match="do not add up over ranks"):
        parts_of(spec, state, "is_sum")


@pytest.mark.parametrize("name", sorted(CASES.keys() - NO_SUMS))
def test_sums_of_shards_are_those_of_all_cases(name, rng):
    case, spec, data, shards = states(name, rng)
    sums = [parts_of(spec, state, "is_sum")[0] for state in shards]
    total = [np.asarray(sum(same)) for same in zip(*sums, strict=True)]
    union = replaced(spec, shards[0], "is_sum", total)
    assert_same(case, spec, union, seen(case, spec, data, SIZE))


@pytest.mark.parametrize("name", sorted(CASES.keys() - NO_SUMS))
def test_what_is_derived_is_of_use_to_another_rank(name, rng):
    case, spec, _, (first, *_) = states(name, rng)
    new = spec.update_inverses(first, 0.3)
    arrays, symmetric = parts_of(spec, new, "is_derived")
    backend = backend_of(arrays[0])
    sent = unpacked(backend, packed(backend, arrays, symmetric), arrays, symmetric)
    other = replaced(spec, first, "is_derived", sent)
    for x, y in zip(numbers(other), numbers(new), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12 * np.abs(y).max())
    v = case.vector(rng)
    found, expected = (
        flat(NumPy, spec.multiply_inverse(state, v)) for state in (other, new)
    )
    close(found, expected, 1e-12)
