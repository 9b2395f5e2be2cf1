"""Cases as shards, the state that saw all of them, and those that saw a shard each."""

from itertools import pairwise

import numpy as np
from block_case import BlockCase, NumPy, flat

import kfac_core as kc


def mapped(function, data):
    """Map over the arrays of tuples, uses and pairs."""
    if isinstance(data, kc.Uses):
        return kc.Uses(mapped(function, data.arrays))
    if isinstance(data, tuple):
        parts = [mapped(function, each) for each in data]
        return type(data)(*parts) if isinstance(data, kc.Pair) else tuple(parts)
    return function(data)


def part(case, data, start, stop):
    """Return the arrays of some cases."""
    return mapped(lambda x: np.take(x, range(start, stop), axis=case.axis), data)


def seen(case, spec, data, size, *, state=None, decay=1.0, weights=None):
    """Return the state after a batch that counts by its cases; none is no update."""
    state = spec.init(np.zeros(1)) if state is None else state
    if not size:
        return state
    is_block = isinstance(case, BlockCase)
    update = spec.update_covs if is_block else spec.update_cov
    first = 1 if is_block and not spec.takes_inputs else 0
    last = -1 if is_block and not spec.takes_gradients else None
    arrays = data[first:last]
    options = {} if weights is None else {"weights": weights}
    return update(
        state, *arrays, **case.extra, ema_decay=decay, ema_weight=float(size), **options
    )


def of_shards(case, spec, data, cuts, size, weights=None, **options):
    """Return the states that saw the cases between these cuts."""
    ends = [0, *cuts, size]
    found = []
    for start, stop in pairwise(ends):
        own = None if weights is None else weights[start:stop]
        shard = part(case, data, start, stop) if stop > start else None
        found.append(seen(case, spec, shard, stop - start, weights=own, **options))
    return found


def merged(library, spec, states):
    """Return the union, by a program where the library compiles."""
    return library.compiled(spec.merge)(*states)


def results(case, spec, state):
    """Return the dense block, and a gradient that is preconditioned with it."""
    state = spec.update_inverses(state, 0.3)
    vector = case.vector(np.random.default_rng(5))
    step = spec.multiply_inverse(state, vector)
    return spec.full_fisher_block(state), flat(NumPy, step)


def close(found, expected, bound):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * scale)


def assert_same(case, spec, union, whole):
    """Check the dense block to 1e-12, and the preconditioned gradient to 1e-10."""
    rounding = 1e2 * case.precision
    pairs = zip(results(case, spec, union), results(case, spec, whole), strict=True)
    for (found, expected), bound in zip(pairs, (1e-12, 1e-10), strict=True):
        close(found, expected, max(bound, rounding))


def numbers(state):
    """Return the arrays of a state, as NumPy's."""
    return [kc.backend_of(x).to_numpy(x) for x in kc.tree.leaves(state)]


def assert_equal(found, expected):
    """Check that two states are equal, bit for bit."""
    for x, y in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_array_equal(x, y)
