"""States of every kind after a few updates, with which spec, and what they restore."""

import numpy as np
from block_case import NumPy
from block_cases import BLOCKS
from factor_cases import FACTORS
from optimizer_cases import optimizer_of, problem

import kfac_core as kc
from kfac_core import tree

NAMES = (
    "rows-lagged",
    "patches",
    "dense-bias",
    "dense-wide",
    "dense-diagonal",
    "transposed",
    "ekfac",
    "optimizer",
)
"""What is saved: factors, blocks, and the state of an optimiser."""


def updated(name, steps=1, powers=(-1, -0.5)):
    """Return a spec, and a state of NumPy's after some updates."""
    rng = np.random.default_rng(0)
    if name == "optimizer":
        spec = optimizer_of(momentum_type="qmodel", adapt_damping=True)
        params, batch = problem(NumPy)
        state = spec.init(params)
        for _ in range(steps):
            state, params, _ = spec.step(state, params, batch)
        return spec, state
    if name in BLOCKS:
        case = BLOCKS[name]
        spec = case.made(None, powers)
    else:
        case = FACTORS[name]
        spec = case.make(**case.all_served(*powers))
    state = spec.init(np.zeros(1))
    for _ in range(steps):
        state = case.fold(NumPy, spec, state, case.draw(rng, 8))
        state = spec.update_inverses(state, 0.1)
    return spec, state


def empty(spec, library):
    """Return a state before any data, as a template."""
    if isinstance(spec, kc.KfacOptimizer):
        return spec.init(problem(library)[0])
    return spec.init(library.asarray(np.zeros(1)))


def equal(found, expected):
    """Check that two states are of one structure, and equal bit for bit."""
    assert structure(found) == structure(expected)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        x, y = (kc.backend_of(leaf).to_numpy(leaf) for leaf in (x, y))
        assert x.shape == y.shape
        np.testing.assert_array_equal(x, y)


def structure(part):
    """Return the types of all nodes, as nested tuples."""
    if isinstance(part, dict):
        return {key: structure(x) for key, x in part.items()}
    if isinstance(part, tuple):
        return type(part), tuple(map(structure, part))
    return None


def bare(part, sequence=list):
    """Return a tree as formats do that know no named tuples."""
    if isinstance(part, dict):
        return {name: bare(x, sequence) for name, x in part.items()}
    if hasattr(part, "_fields"):
        return {name: bare(x, sequence) for name, x in part._asdict().items()}
    if isinstance(part, tuple):
        return sequence([bare(x, sequence) for x in part])
    return part


def verbs(name, spec):
    """Yield all verbs that read a state of a block, or of the optimiser."""
    if name == "optimizer":
        params, batch = problem(NumPy)
        yield lambda state: spec.step(state, params, batch)
        return
    case, rng = BLOCKS[name], np.random.default_rng(0)
    data, vector = case.draw(rng, 8), case.vector(rng)
    yield lambda state: case.fold(NumPy, spec, state, data)
    yield lambda state: spec.update_inverses(state, 0.1)
    yield lambda state: spec.multiply_inverse(state, vector)
    yield spec.full_fisher_block
