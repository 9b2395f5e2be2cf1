"""Our factors through the presets, against those that other libraries computed.

The files are written by `record.py`, where the libraries are installed.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from preset_layers import MAKE, OUT, N, NumPy, T

from kfac_core.presets import CONVENTIONS, convert, damping_like, layer_of

RECORDED = Path(__file__).parent / "recorded"
DATA = json.loads((RECORDED / "data.json").read_text())
LIBRARIES = {
    path.stem: json.loads(path.read_text())
    for path in sorted(RECORDED.glob("*.json"))
    if path.stem != "data"
}
FACTORS = {
    (name, kind): parts
    for made in LIBRARIES.values()
    for name, kinds in made["factors"].items()
    for kind, parts in kinds.items()
}
PRODUCTS = LIBRARIES["curvlinops"]["products"]


def updated(library, kind):
    """A block, and its state after the data that every library was given."""
    block = MAKE[kind](has_bias=True)
    x, g = (np.asarray(DATA[kind][part]) for part in ("x", "g"))
    if kind == "linear":
        g = g[:, 0]
    elif kind == "images":
        g = g.reshape(N, T, 1, OUT)
    state = library.moved(block.init(np.zeros(1)))
    update = library.compiled(block.update_covs)
    arrays = library.asarray(x), library.asarray(N * g)
    return block, update(state, *arrays, ema_decay=0.0)


def outputs(kind):
    return OUT if kind == "linear" else T * OUT


def ours(library, kind, name):
    block, state = updated(library, kind)
    return convert(block, state, to=name, num_cases=N, num_outputs=outputs(kind))


@pytest.mark.parametrize(("name", "kind"), FACTORS)
def test_factors_are_those_that_it_computed(plain_library, name, kind):
    theirs = ours(plain_library, kind, name)
    for part, found in (("A", theirs.inputs), ("G", theirs.gradients)):
        wanted = np.asarray(FACTORS[name, kind][part])
        precision = 1e-10 * np.abs(wanted).max()
        found = plain_library.to_numpy(found)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=precision)


def params(kind, tensors):
    """Weights and bias as PyTorch has them, in our order."""
    weights, bias = map(np.asarray, tensors)
    axes = (2, 3, 1, 0) if kind == "images" else (1, 0)
    return np.transpose(weights, axes), bias


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("rule", ["pi", "exact"])
def test_a_product_with_the_inverse_is_that_of_curvlinops(kind, rule):
    made = PRODUCTS[kind]
    block, state = updated(NumPy(), kind)
    damping = damping_like(
        "curvlinops",
        made["damping"],
        layer_of(block),
        num_cases=N,
        positions=1 if kind == "linear" else T,
        num_outputs=outputs(kind),
        rule=rule,
    )
    block = replace(block, damping_type=damping.damping_type)
    state = block.update_inverses(block.init_inverses(state), damping.damping)
    found = block.multiply_inverse(state, params(kind, made["vector"]))
    for x, y in zip(found, params(kind, made[rule]), strict=True):
        np.testing.assert_allclose(x * damping.factor, y, rtol=1e-9)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_the_exact_curvature_is_that_of_curvlinops(kind):
    # A loss that is squared at each position: K-FAC-expand is exact, and the Hessian
    # of the mean of squares over N C numbers is 2/C that of a case's.
    made, block = PRODUCTS[kind], MAKE[kind](has_bias=True)
    x = np.asarray(DATA[kind]["x"])
    positions = 1 if kind == "linear" else T
    sources = []
    for place, column in np.ndindex(positions, OUT):
        g = np.zeros((N, positions, OUT))
        g[:, place, column] = (2 / outputs(kind)) ** 0.5
        g = g[:, 0] if kind == "linear" else g
        sources.append((g.reshape(N, T, 1, OUT) if kind == "images" else g,))
    state = block.update_covs(block.init(x), x, tuple(sources), ema_decay=0.0)
    dense = block.full_fisher_block(state)
    flat = np.concatenate([p.ravel() for p in params(kind, made["vector"])])
    wanted = np.concatenate([p.ravel() for p in params(kind, made["GGN"])])
    np.testing.assert_allclose(dense @ flat, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", sorted({name for name, _ in FACTORS}))
def test_a_kind_that_is_not_recorded_is_refused_by_the_library(name):
    recorded = {kind for own, kind in FACTORS if own == name}
    assert recorded == set(CONVENTIONS[name].scalings) - {"reduce"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_version_is_that_of_the_convention(library):
    made = LIBRARIES[library]
    for name in made["factors"]:
        assert made["version"] in CONVENTIONS[name].version
