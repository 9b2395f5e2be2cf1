"""Our factors through the presets, against those that other libraries computed.

The files are written by `record.py`, where the libraries are installed.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from preset_layers import MAKE, OUT, N, NumPy, T, rows_of

import kfac_core as kc
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
PRECISION = {
    name: 2 * N * T * 2.0**-24
    for made in LIBRARIES.values()
    for name in made["factors"]
    if made.get("dtype") == "float32"
}
"""Rounding of a mean of squares in float32: of each term, of the sum, and of what is
squared, relative to the largest entry, which is on the diagonal."""

EXACT = {
    # The Hessian of the mean of squares over N C numbers is 2/C that of a case's.
    "backpack": lambda outputs: 2 / outputs,
    "curvlinops, type-2": lambda outputs: 2 / outputs,
    # These two measure half of the squares, summed.
    "laplace-torch, GGN": lambda outputs: 1.0,
    "nngeometry, FIM": lambda outputs: 1.0,
}
"""Those that measure the exact curvature, and not the squares of gradients: which."""


def laid(kind, g):
    """Return output gradients ``[N, T, OUT]`` as the layer has them."""
    if kind == "linear":
        return g[:, 0]
    return g.reshape(N, T, 1, OUT) if kind == "images" else g


def updated(library, kind, gradients=None, has_bias=True):
    """A block, and its state after the data that every library was given.

    Without gradients, an empty sequence, it sees the inputs alone.
    """
    block = MAKE[kind](has_bias=has_bias)
    data = DATA["tokens" if kind == "reduce" else kind]
    x, g = (np.asarray(data[part]) for part in ("x", "g"))
    sources = [laid(kind, N * g)] if gradients is None else gradients
    block = block if sources else kc.blocks.ForwardOnlyFB(block)
    state = library.moved(block.init(np.zeros(1)))
    update = library.compiled(block.update_covs)
    data = [library.asarray(x)]
    if sources:
        data.append(tuple((library.asarray(own),) for own in sources))
    return block, update(state, *data, ema_decay=0.0)


def exact_sources(kind, curvature):
    """Return gradients whose squares are the curvature of squares at each number."""
    positions = 1 if kind == "linear" else T
    sources = []
    for place, column in np.ndindex(positions, OUT):
        g = np.zeros((N, positions, OUT))
        g[:, place, column] = curvature**0.5
        sources.append(laid(kind, g))
    return sources


def outputs(kind):
    return OUT if kind == "linear" else T * OUT


def assert_near(found, wanted, precision=1e-10):
    atol = precision * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def ours(library, kind, name):
    exact = None
    if name in EXACT:
        exact = exact_sources(kind, EXACT[name](outputs(kind)))
    if "forward-only" in name and kind != "reduce":
        exact = ()
    block, state = updated(library, kind, exact)
    return convert(block, state, to=name, num_cases=N, num_outputs=outputs(kind))


@pytest.mark.parametrize(("name", "kind"), FACTORS)
def test_factors_are_those_that_it_computed(plain_library, name, kind):
    theirs = ours(plain_library, kind, name)
    for part, found in (("A", theirs.inputs), ("G", theirs.gradients)):
        wanted = np.asarray(FACTORS[name, kind][part])
        precision = PRECISION.get(name, 1e-10)
        assert_near(plain_library.to_numpy(found), wanted, precision)


def padded(library, kind, weights=None):
    """The factors that kfac-jax or kronfluence has of padded tokens, by our block."""
    made = LIBRARIES[kind]["masked tokens"]
    mask = np.asarray(made["mask"], dtype=np.float64)
    block, g = MAKE["tokens"](True), np.asarray(DATA["tokens"]["g"])
    state = block.update_covs(
        library.moved(block.init(np.zeros(1))),
        library.asarray(np.asarray(DATA["tokens"]["x"])),
        library.asarray(N * g * mask[..., None]),
        ema_decay=0.0,
        weights=library.asarray(mask if weights is None else weights),
        num_cases=float(N),
    )
    to = kind.replace("_", "-")
    counts = {"num_cases": N, "num_outputs": outputs("tokens")}
    return convert(block, state, to=to, **counts), made


def test_factors_of_padded_tokens_are_those_of_kronfluence(plain_library):
    """It divides by the number of tokens that are no padding."""
    theirs, made = padded(plain_library, "kronfluence")
    for part, found in (("A", theirs.inputs), ("G", theirs.gradients)):
        assert_near(plain_library.to_numpy(found), np.asarray(made[part]))
    blind, _ = padded(plain_library, "kronfluence", weights=np.ones((N, T)))
    wrong = plain_library.to_numpy(blind.inputs) - np.asarray(made["A"])
    assert np.abs(wrong).max() > 0.1


def test_factors_of_padded_tokens_are_those_of_kfac_jax(plain_library):
    """It masks where there is no gradient, but counts the bias of padding."""
    theirs, made = padded(plain_library, "kfac_jax")
    a = plain_library.to_numpy(theirs.inputs).copy()
    np.testing.assert_allclose(a[-1, -1], np.mean(np.sum(made["mask"], axis=1)))
    a[-1, -1] = T
    assert_near(a, np.asarray(made["A"]))
    assert_near(plain_library.to_numpy(theirs.gradients), np.asarray(made["G"]))


def corrected(kind, scale, damping):
    """EKFAC, and its state after gradients of summed losses, times a number."""
    block = kc.blocks.EigenvalueCorrectedFB(MAKE[kind](has_bias=True))
    x, g = (np.asarray(DATA[kind][part]) for part in ("x", "g"))
    state = block.init(np.zeros(1))
    for _ in range(2):  # the second pass is in the basis of the first
        state = block.update_covs(state, x, laid(kind, scale * N * g), ema_decay=0.0)
        state = block.update_inverses(state, damping)
    return block, state


def as_params(block, matrix):
    """Return a matrix, the row of the bias last, as weights and bias."""
    geometry = getattr(block.block, "geometry", None)
    shape = matrix[:-1].shape if geometry is None else geometry.filter_shape
    return matrix[:-1].reshape(shape), matrix[-1]


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
def test_a_product_with_the_inverse_of_ekfac_is_that_of_curvlinops(kind):
    made, scale = PRODUCTS[kind], outputs(kind)  # of its block over ours
    block, state = corrected(kind, 1.0, made["damping"] / scale)
    found = block.multiply_inverse(state, params(kind, made["vector"]))
    for x, y in zip(found, params(kind, made["EKFAC"]), strict=True):
        np.testing.assert_allclose(x / scale, y, rtol=1e-9)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_the_exact_curvature_is_that_of_curvlinops(kind):
    # A loss that is squared at each position: K-FAC-expand is exact.
    made = PRODUCTS[kind]
    block, state = updated(NumPy(), kind, exact_sources(kind, 2 / outputs(kind)))
    dense = block.full_fisher_block(state)
    flat = np.concatenate([p.ravel() for p in params(kind, made["vector"])])
    wanted = np.concatenate([p.ravel() for p in params(kind, made["GGN"])])
    np.testing.assert_allclose(dense @ flat, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", LIBRARIES["kfac_jax"]["exact"])
def test_the_exact_curvature_is_that_of_kfac_jax(kind):
    block, state = updated(NumPy(), kind, exact_sources(kind, 2 / outputs(kind)))
    dense = block.full_fisher_block(state)
    order = np.roll(np.arange(len(dense)), OUT)  # the bias is their first
    wanted = np.asarray(LIBRARIES["kfac_jax"]["exact"][kind])
    assert_near(dense[np.ix_(order, order)], wanted)


@pytest.mark.parametrize("kind", LIBRARIES["kfac_jax"]["products"])
@pytest.mark.parametrize("rule", ["pi", "exact"])
def test_a_product_with_the_inverse_is_that_of_kfac_jax(kind, rule):
    """Its factors, damped by pi, are not those of the paper; their product is."""
    made = LIBRARIES["kfac_jax"]["products"][kind]
    block, state = updated(NumPy(), kind)
    damping = damping_like(
        "kfac-jax",
        made["damping"],
        layer_of(block),
        num_cases=N,
        positions=1 if kind == "linear" else T,
        rule=rule,
    )
    block = replace(block, damping_type=damping.damping_type)
    state = block.update_inverses(block.init_inverses(state), damping.damping)
    vector, wanted = (tuple(map(np.asarray, made[part])) for part in ("vector", rule))
    for x, y in zip(block.multiply_inverse(state, vector), wanted, strict=True):
        assert_near(x * damping.factor, y)


OTHERS = {
    ("linear", "tnt"): lambda: kc.blocks.TensorNormalTrainingFB(MAKE["linear"](True)),
    ("linear", "diagonal"): lambda: kc.blocks.FullyConnectedDiagonalFB(4, OUT, True),
    ("images", "diagonal"): lambda: kc.blocks.ConvDiagonalFB(GEOMETRY, has_bias=True),
}
GEOMETRY = MAKE["images"](True).geometry


@pytest.mark.parametrize(("kind", "name"), OTHERS)
def test_other_blocks_are_those_of_kfac_jax(kind, name):
    block = OTHERS[kind, name]()
    x, g = (np.asarray(DATA[kind][part]) for part in ("x", "g"))
    state = block.init(np.zeros(1))
    state = block.update_covs(state, x, laid(kind, N * g), ema_decay=0.0)
    dense = block.full_fisher_block(state)
    order = np.roll(np.arange(len(dense)), OUT)  # the bias is their first
    wanted = np.asarray(LIBRARIES["kfac_jax"]["blocks"][kind][name])
    assert_near(dense[np.ix_(order, order)] / N, wanted)  # theirs has another 1/N


@pytest.mark.parametrize("kind", LIBRARIES["laplace"]["evidence"])
def test_the_marginal_likelihood_is_that_of_laplace_torch(kind):
    """Half of the squared error, summed over cases; a bias with a block of its own."""
    made = LIBRARIES["laplace"]["evidence"][kind]
    prior, numbers = made["prior"], N * outputs(kind)
    block, state = updated(NumPy(), kind, exact_sources(kind, 1.0), has_bias=False)
    spectral = kc.SpectralBlock(block)
    weights = len(block.full_fisher_block(state))
    spectrum = spectral.decompose(state)  # of the mean loss, and theirs of the sum
    of_weights = float(spectral.logdet(spectrum, damping=prior, scale=N))
    of_bias = OUT * math.log(numbers / OUT + prior)
    np.testing.assert_allclose(of_weights + of_bias, made["log det"], rtol=1e-10)
    evidence = -made["half of squares"] - numbers * math.log(2 * math.pi) / 2
    evidence += (weights + OUT) * math.log(prior) / 2 - (of_weights + of_bias) / 2
    evidence -= prior * made["square of parameters"] / 2
    wanted = made["log marginal likelihood"]
    np.testing.assert_allclose(evidence, wanted, rtol=1e-10)


@pytest.mark.parametrize("kind", LIBRARIES["kronfluence"]["influences"])
def test_influences_are_those_of_kronfluence(kind):
    """By EKFAC: the loss is a sum over a case's outputs, as is what is measured."""
    made = LIBRARIES["kronfluence"]["influences"][kind]
    block, state = corrected(kind, outputs(kind), made["damping"])
    x, g = (np.asarray(DATA[kind][part]) for part in ("x", "g"))
    g = N * outputs(kind) * g
    (spectrum,) = block.spectrum(state)
    trace = np.sum(spectrum.eigenvalues)
    np.testing.assert_allclose(trace, made["trace"], rtol=1e-10)
    rows = np.einsum("nti,ntj->nij", rows_of(kind, x, has_bias=True), g)
    steps = [block.multiply_inverse(state, as_params(block, v)) for v in rows]
    steps = [np.concatenate([w.reshape(-1, OUT), b[None]]) for w, b in steps]
    scores = np.einsum("qij,nij->qn", np.stack(steps), rows)
    assert_near(scores, np.asarray(made["scores"]))


@pytest.mark.parametrize("name", sorted({name for name, _ in FACTORS}))
def test_a_kind_that_is_not_recorded_is_refused_by_the_library(name):
    recorded = {kind for own, kind in FACTORS if own == name}
    assert recorded == set(CONVENTIONS[name].scalings)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_version_is_that_of_the_convention(library):
    made = LIBRARIES[library]
    for name in made["factors"]:
        assert made["version"] in CONVENTIONS[name].version
