"""SOAP is Adam in the eigenbasis of Shampoo's factors, which follows them."""

from itertools import pairwise

import numpy as np
import pytest
from eigenvalue_corrected_layers import CASES, LAYERS

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import UnsupportedError
from kfac_core.linalg.orthogonal_iteration import orthogonal_step
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh
from kfac_core.reference.linearization import LOSS_SITE
from kfac_core.registry import backend_of

EPS, BETA = 1e-3, 0.9


@pytest.fixture(params=["dense", "shared", "convolution", "shared convolution"])
def layer(request):
    return LAYERS[request.param]


def steps(block, *batches):
    """Return the state after a basis of the first batch, and moments of all."""
    state = block.update_covs(block.init(np.zeros(1)), *batches[0], ema_decay=BETA)
    for data in batches:
        state = block.update_inverses(state, EPS)
        state = block.update_covs(state, *data, ema_decay=BETA)
    return state


def in_one_basis(block, *batches):
    """Return the state after the moments of all batches in the basis of all."""
    state = block.init(np.zeros(1))
    for data in batches:
        state = block.update_covs(state, *data, ema_decay=BETA)
    state = block.update_inverses(state, EPS)
    for data in batches:
        state = block.update_covs(state, *data, ema_decay=BETA)
    return state


def means(layer, batches):
    return [layer.gradients(*data).mean(axis=0) for data in batches]


def ema(samples):
    """Return Adam's debiased average."""
    total = weight = 0
    for sample in samples:
        total, weight = BETA * total + (1 - BETA) * sample, BETA * weight + 1 - BETA
    return total / weight


def bases(state):
    """Return the stored eigenvectors of both dense sides."""
    return [
        own.derived.eigendecompositions[0].vectors
        for own in (state.block.input_factor, state.block.output_factor)
    ]


def close(found, expected, bound=1e-12):
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=bound * np.abs(expected).max()
    )


def vector_of(layer, matrix):
    """Return a matrix in the form of the parameters."""
    rows = [int(np.prod(shape[:-1])) for shape in layer.shapes]
    parts = np.split(matrix, np.cumsum(rows)[:-1])
    parts = [p.reshape(s) for p, s in zip(parts, layer.shapes, strict=True)]
    return tuple(parts) if len(parts) > 1 else parts[0]


def test_without_matrices_it_is_adam(rng):
    layer = LAYERS["dense"]
    inner = kc.blocks.FullyConnectedKFACBasicFB(
        4, 3, True, diagonal_approx_for_input=True, diagonal_approx_for_output=True
    )
    block = kc.blocks.SoapFB(inner)
    batches = [layer.draw(rng) for _ in range(4)]
    momentum = rng.normal(size=(5, 3))
    found = block.multiply_inverse(steps(block, *batches), vector_of(layer, momentum))
    second = ema([d * d for d in means(layer, batches)])
    adam = momentum / (np.sqrt(second) + EPS)
    close(np.concatenate([found[0], found[1][None]]), adam)


def test_it_is_adam_in_the_basis(layer, rng):
    block, data = kc.blocks.SoapFB(layer.block), layer.draw(rng)
    state = block.update_inverses(
        block.update_covs(block.init(np.zeros(1)), *data, ema_decay=BETA), EPS
    )
    left, right = bases(state)
    batches = [layer.draw(rng) for _ in range(3)]
    for batch in batches:
        state = block.update_covs(state, *batch, ema_decay=BETA)
    momentum = means(layer, batches)[-1]
    second = ema([(left.T @ d @ right) ** 2 for d in means(layer, batches)])
    expected = left @ (left.T @ momentum @ right / (second**0.5 + EPS)) @ right.T
    vector = vector_of(layer, momentum)
    found = tree.leaves(block.multiply_inverse(state, vector))
    for x, y in zip(found, tree.leaves(vector_of(layer, expected)), strict=True):
        close(x, y, 1e-11)


def test_the_basis_diagonalises_both_sides_of_mean_gradients(layer, rng):
    block = kc.blocks.SoapFB(layer.block, basis="eigh")
    batches = [layer.draw(rng) for _ in range(3)]
    state = block.init(np.zeros(1))
    for data in batches:
        state = block.update_covs(state, *data, ema_decay=BETA)
    state = block.update_inverses(state, EPS)
    own = means(layer, batches)
    sides = ema([d @ d.T for d in own]), ema([d.T @ d for d in own])
    for q, side in zip(bases(state), sides, strict=True):
        rotated = q.T @ side @ q
        close(rotated, np.diag(np.diag(rotated)))
    # Until a batch follows, it is the root of Shampoo's product.
    root = np.kron(*sides) / np.trace(sides[0])
    dense = block.full_fisher_block(state)
    close(dense @ dense, root, 1e-11)
    before = block.full_fisher_block(block.init_inverses(state))
    close(before, dense, 1e-7)  # eigenvalues of zero have the roots of their rounding


def test_one_case_a_batch_it_is_the_root_of_ekfac(rng):
    """Mean gradients are then case gradients, and signs give both one eigenbasis."""
    inner = kc.blocks.FullyConnectedKFACBasicFB(3, 2)
    soap = kc.blocks.SoapFB(inner, basis="eigh")
    ekfac = kc.blocks.EigenvalueCorrectedFB(inner)
    batches = [(rng.choice([-1.0, 1.0], (1, 3)), rng.choice([-1.0, 1.0], (1, 2)))] * 3
    batches += [(np.ones((1, 3)), np.asarray([[1.0, -1.0]]))]
    batches += [(np.asarray([[1.0, 1.0, -1.0]]), np.ones((1, 2)))]
    one, other = (in_one_basis(block, *batches) for block in (soap, ekfac))
    root = soap.full_fisher_block(one)
    close(root @ root, ekfac.full_fisher_block(other))
    # Of two cases, the mean gradient is another.
    pairs = [
        tuple(np.concatenate(x) for x in zip(a, b, strict=True))
        for a, b in pairwise(batches)
    ]
    one, other = (in_one_basis(block, *pairs) for block in (soap, ekfac))
    root = soap.full_fisher_block(one)
    assert np.abs(root @ root - ekfac.full_fisher_block(other)).max() > 0.1


@pytest.mark.parametrize("basis", ["eigh", "qr"])
def test_a_new_basis_takes_the_moments_along(layer, basis, rng):
    """They become the diagonal, in the new basis, of the matrix that they were."""
    block = kc.blocks.SoapFB(layer.block, basis=basis)
    state = steps(block, *[layer.draw(rng) for _ in range(2)])
    before = block.full_fisher_block(state)
    moved = block.update_inverses(state, EPS)
    q = np.kron(*bases(moved))
    expected = np.sqrt(np.diag(q.T @ before @ before @ q))
    close(np.diag(q.T @ block.full_fisher_block(moved) @ q), expected, 1e-11)
    assert np.abs(np.kron(*bases(state)) - q).max() > 1e-3
    assert float(moved.moments.weight) == float(state.moments.weight)


@pytest.mark.parametrize("kind", ["SoapFB", "EigenvalueCorrectedFB"])
def test_a_step_of_qr_is_one_of_orthogonal_iteration(kind, rng):
    layer = LAYERS["dense"]
    block = getattr(kc.blocks, kind)(layer.block, basis="qr")
    state = steps(block, layer.draw(rng), layer.draw(rng))
    covs = [block.factors(state)[name] for name in ("input_factor", "output_factor")]
    covs = [factor.get_cov(own) for factor, own in covs]
    moved = block.update_inverses(state, EPS)
    for cov, old, new in zip(covs, bases(state), bases(moved), strict=True):
        order = np.argsort(-np.diag(old.T @ cov @ old))
        q = np.linalg.qr(cov @ old[:, order])[0][:, ::-1]
        close(np.abs(q.T @ new), np.eye(len(q)), 1e-6)
    for _ in range(300):
        moved = block.update_inverses(moved, EPS)
    for cov, q in zip(covs, bases(moved), strict=True):
        rotated = q.T @ cov @ q
        close(rotated, np.diag(np.diag(rotated)), 1e-9)


def test_eigenvectors_stay_orthonormal_for_a_matrix_without_rank(rng):
    x = rng.normal(size=(6, 2))
    matrix, q = x @ x.T, np.eye(6)
    backend = backend_of(matrix)
    for _ in range(40):
        values, q = orthogonal_step(backend, matrix, q)
        close(q.T @ q, np.eye(6), 1e-13)
    close(values[-2:], np.linalg.eigvalsh(matrix)[-2:], 1e-9)
    assert values[:4].max() < 1e-13 * values[-1]


@pytest.mark.parametrize("name", ["dense", "shared embedding"])
def test_every_library_follows_the_basis(library, name, rng):
    layer = LAYERS[name]
    block, data = kc.blocks.SoapFB(layer.block), layer.draw(rng)
    momentum = tuple(rng.normal(size=shape) for shape in layer.shapes)
    momentum = momentum if len(momentum) > 1 else momentum[0]
    start = block.init(np.zeros(1))

    def run(state, data, momentum):
        for _ in range(2):  # of which the second follows the first
            state = block.update_covs(state, *data, ema_decay=BETA)
            state = block.update_inverses(state, EPS)
        return block.multiply_inverse(state, momentum)

    arrays = tree.map(library.asarray, (data, momentum))
    found = library.compiled(run)(library.moved(start), *arrays)
    expected = run(start, data, momentum)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        close(library.to_numpy(x), y, 1e-9)


def test_a_case_of_weight_two_counts_twice_in_the_mean(rng):
    layer = LAYERS["dense"]
    block, data = kc.blocks.SoapFB(layer.block), layer.draw(rng)
    weights = np.ones(CASES)
    weights[0], weights[1] = 2.0, 0.0
    repeated = tuple(np.take(x, [0, 0, *range(2, CASES)], axis=0) for x in data)
    base = steps(block, data)
    found = block.update_covs(base, *data, ema_decay=BETA, weights=weights)
    expected = block.update_covs(base, *repeated, ema_decay=BETA)
    close(found.moments.total, expected.moments.total)
    close(found.block.input_factor.cov.total, expected.block.input_factor.cov.total)


def test_gradients_of_any_size_keep_the_scale_of_a_gradient(rng):
    """Neither products of both sides, nor squares of these, leave the range."""
    layer = LAYERS["dense"]
    block = kc.blocks.SoapFB(layer.block)
    for size in (1e-12, 1e12):
        x, g = (a.astype(np.float32) for a in layer.draw(rng))
        g = g * np.float32(size)
        state = block.update_covs(block.init(g), x, g, ema_decay=BETA)
        state = block.update_inverses(state, 1e-6 * size)
        values = block.spectrum(state)[0].eigenvalues
        mean = layer.gradients(x, g / np.float32(size)).mean(axis=0)
        norm = np.linalg.norm(values / np.float32(size))
        np.testing.assert_allclose(norm, np.linalg.norm(mean), rtol=1e-4)


def test_sides_of_other_forms_are_refused_by_name():
    inner = kc.blocks.FullyConnectedKFACBasicFB(4, 4, output_blocks=2)
    with pytest.raises(UnsupportedError, match="factor of the form"):
        kc.blocks.SoapFB(inner)


def test_the_optimiser_with_it_is_adam_where_sides_are_diagonal(rng):
    """From the second step on; the first finds the basis, and has no moments."""
    model = SequentialModel(Sequential((Dense(3, 4), Tanh(), Dense(4, 2))))
    x = rng.normal(size=(5, 16, 3))
    labels = (x[..., 0] > 0).astype(np.int32)
    params = model.init(rng, like=x)
    layers = kc.LayerCollection.of(params)
    sides = {"diagonal_approx_for_input": True, "diagonal_approx_for_output": True}
    for names, site in zip(model.names, model.sites, strict=True):
        layers = layers.register_fully_connected(names, site, approx="soap", **sides)
    layers = layers.register_categorical_predictive_distribution(LOSS_SITE)
    optimizer = kc.KfacOptimizer(
        model,
        layers,
        learning_rate=0.1,
        momentum=0.0,
        estimation_mode="empirical",
        damping=EPS,
        cov_ema_decay=BETA,
        invert_every=2,
    )
    state = optimizer.init(params)
    state, params, _ = optimizer.step(state, params, Batch(x[0], labels[0]))
    gradients = {name: [] for name in params}
    for batch in map(Batch, x[1:], labels[1:]):
        run = model.linearize(params, batch)
        logits = run.loss_inputs[LOSS_SITE]
        chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        error = (chance - np.eye(2)[batch.targets]) / len(logits)
        adam = {}
        for name, g in run.param_gradients({LOSS_SITE: error}).items():
            gradients[name].append(g)
            second = ema([g * g for g in gradients[name]])
            adam[name] = params[name] - 0.1 * g / (np.sqrt(second) + EPS)
        state, params, _ = optimizer.step(state, params, batch)
        for name, expected in adam.items():
            close(params[name], expected, 1e-11)
