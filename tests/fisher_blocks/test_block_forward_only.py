"""FOOF: the block of inputs alone, ``c kron(A, I)``, damped exactly."""

import re

import numpy as np
import pytest
from block_case import NumPy, dense_power, flat, moment, with_one
from block_truth import USES, patches_2x2

import kfac_core as kc

GEOMETRY = kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID")
IMAGE, FILTER = (3, 3, 1), (2, 2, 1, 2)


def ids_moment(ids):
    return np.diag(np.eye(4)[ids.ravel()].mean(0))


# By name: the layer's own block, its inputs, shapes of parameters, A and c.
LAYERS = {
    "dense": (
        kc.blocks.FullyConnectedKFACBasicFB(3, 2, True),
        lambda rng: rng.normal(size=(8, 3)),
        ((3, 2), (2,)),
        lambda x: (moment(with_one(x)), 1),
    ),
    "uses": (
        kc.blocks.FullyConnectedMultiIndepFB(3, 2),
        lambda rng: rng.normal(size=(USES, 8, 3)),
        ((3, 2),),
        lambda x: (moment(x), USES),
    ),
    "embedding": (
        kc.blocks.EmbeddingKFACFB(4, 2),
        lambda rng: rng.integers(0, 4, 8),
        ((4, 2),),
        lambda ids: (ids_moment(ids), 1),
    ),
    "embedding-uses": (
        kc.blocks.EmbeddingKFACMultiIndepFB(4, 2),
        lambda rng: rng.integers(0, 4, (USES, 8)),
        ((4, 2),),
        lambda ids: (ids_moment(ids), USES),
    ),
    "conv": (
        kc.blocks.ConvKFCBasicFB(GEOMETRY, has_bias=True),
        lambda rng: rng.normal(size=(8, *IMAGE)),
        (FILTER, (2,)),
        lambda x: (moment(with_one(patches_2x2(x))), 4),
    ),
    "conv-uses": (
        kc.blocks.ConvKFCBasicMultiIndepFB(GEOMETRY),
        lambda rng: rng.normal(size=(USES, 8, *IMAGE)),
        (FILTER,),
        lambda x: (moment(patches_2x2(x.reshape(-1, *IMAGE))), 4 * USES),
    ),
}
DENSE = LAYERS["dense"][0]
DAMPING = 0.3


def close(found, truth, tolerance=1e-12):
    scale = np.linalg.norm(truth)
    assert np.linalg.norm(np.asarray(found) - truth) <= tolerance * scale


def updated(block, x, **options):
    state = block.update_covs(block.init(like=np.zeros(1)), x, 0.5, **options)
    return block.update_inverses(state, DAMPING)


def vector_for(rng, shapes):
    tensors = tuple(rng.normal(size=shape) for shape in shapes)
    return tensors if len(tensors) > 1 else tensors[0]


@pytest.mark.parametrize("name", LAYERS)
def test_the_damped_block_is_that_of_the_inputs(library, rng, name):
    own, draw, shapes, truth = LAYERS[name]
    block, x, vector = kc.blocks.ForwardOnlyFB(own), draw(rng), vector_for(rng, shapes)
    a, c = truth(x)
    fisher = c * np.kron(a, np.eye(2))
    state = library.moved(block.init(like=np.zeros(1)))
    state = library.compiled(block.update_covs)(state, library.asarray(x), 0.5)
    state = library.compiled(block.update_inverses)(state, DAMPING)
    close(library.to_numpy(block.full_fisher_block(state)), fisher)
    given = (
        tuple(map(library.asarray, vector))
        if isinstance(vector, tuple)
        else library.asarray(vector)
    )
    step = block.multiply_inverse(state, given)
    right = np.linalg.solve(fisher + DAMPING * np.eye(len(fisher)), flat(NumPy, vector))
    close(flat(library, step), right)


@pytest.mark.parametrize("name", LAYERS)
def test_all_that_it_serves_is_of_the_damped_block(rng, name):
    own, draw, shapes, truth = LAYERS[name]
    block = kc.blocks.ForwardOnlyFB(
        own, matpowers=(-1, 0.5, 2), cholesky=True, cholesky_inverse=True
    )
    x, vector = draw(rng), vector_for(rng, shapes)
    a, c = truth(x)
    damped = c * np.kron(a, np.eye(2)) + DAMPING * np.eye(2 * len(a))
    state, v = updated(block, x), flat(NumPy, vector)
    for exp in (1, -1, 0.5, 2):
        found = flat(NumPy, block.multiply_matpower(state, vector, exp))
        close(found, dense_power(damped, exp) @ v)
    lower = np.linalg.cholesky(damped)
    close(flat(NumPy, block.multiply_cholesky(state, vector)), lower @ v)
    found = block.multiply_cholesky_inverse(state, vector, transpose=True)
    close(flat(NumPy, found), np.linalg.solve(lower.T, v))
    (spectrum,) = block.spectrum(state)
    values = np.sort(spectrum.eigenvalues.ravel())
    close(values, np.sort(c * np.repeat(np.linalg.eigvalsh(a), 2)))
    assert block.inverse_error(state, DAMPING) < 1e-12
    least = c * np.linalg.eigvalsh(a)[0]
    half = block.inverse_error(state, DAMPING / 2)
    close(half, DAMPING / 2 / (least + DAMPING), 0.1)


@pytest.mark.parametrize("rows", [None, 40], ids=["dense", "low-rank"])
def test_rows_of_the_inputs_have_their_weights_once(rng, rows):
    own = kc.blocks.FullyConnectedKFACBasicFB(3, 2, input_max_rows=rows)
    block, x, w = kc.blocks.ForwardOnlyFB(own), rng.normal(size=(8, 3)), rng.random(8)
    state = updated(block, x, weights=w, num_cases=10)
    fisher = np.kron((x.T * w) @ x / 10, np.eye(2))
    close(block.full_fisher_block(state), fisher)
    v = rng.normal(size=(3, 2))
    right = np.linalg.solve(fisher + DAMPING * np.eye(6), v.ravel())
    close(block.multiply_inverse(state, v).ravel(), right, 1e-11)


def test_the_second_side_is_the_identity_without_debiasing_too(rng):
    own = kc.blocks.FullyConnectedKFACBasicFB(3, 2, zero_debias=False)
    block, x = kc.blocks.ForwardOnlyFB(own), rng.normal(size=(8, 3))
    state = block.update_covs(block.init(like=x), x, 0.9)
    close(block.full_fisher_block(state), 0.1 * np.kron(moment(x), np.eye(2)))


def test_it_is_kfac_where_gradients_have_the_identity_as_their_moment(rng):
    orthogonal, _ = np.linalg.qr(rng.normal(size=(8, 2)))
    x, g = rng.normal(size=(8, 3)), np.sqrt(8) * orthogonal
    found = kc.blocks.ForwardOnlyFB(DENSE)
    foof = found.full_fisher_block(updated(found, x))

    def kfac(g):
        state = DENSE.update_covs(DENSE.init(like=x), x, g, 0.5)
        return DENSE.full_fisher_block(state)

    close(kfac(g), foof)
    assert np.linalg.norm(kfac(rng.normal(size=(8, 2))) - foof) > 0.1


def test_a_step_of_a_linear_layer_is_the_least_squares_solution(rng):
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    weights, bias = rng.normal(size=(3, 2)), rng.normal(size=2)
    residual = x @ weights + bias - y
    gradient = x.T @ residual / 8, residual.mean(0)
    block = kc.blocks.ForwardOnlyFB(DENSE)
    state = block.update_covs(block.init(like=x), x, 0.5)
    step = block.multiply_inverse(block.update_inverses(state, 0.0), gradient)
    best, *_ = np.linalg.lstsq(with_one(x), y, rcond=None)
    close(np.vstack([weights - step[0], bias - step[1]]), best)

    # K-FAC with the gradients of the data takes another step.
    state = DENSE.update_covs(DENSE.init(like=x), x, residual, 0.5)
    other = DENSE.multiply_inverse(DENSE.update_inverses(state, 1e-12), gradient)
    assert np.linalg.norm(weights - other[0] - best[:3]) > 0.1


def test_what_the_block_does_not_need_makes_no_difference(rng):
    x = rng.normal(size=(8, 3))
    plain = kc.blocks.ForwardOnlyFB(kc.blocks.FullyConnectedKFACBasicFB(3, 2))
    other = kc.blocks.ForwardOnlyFB(
        kc.blocks.FullyConnectedKFACBasicFB(
            3, 2, damping_type="exact", matpowers=(2,), normalize_damping_power=0.5
        )
    )
    assert plain == other
    state = updated(plain, x)
    assert list(kc.state_to_dict(state)) == list(kc.state_to_dict(updated(other, x)))
    with pytest.raises(kc.errors.StateError, match="state is one of ForwardOnlyFB"):
        kc.blocks.FullyConnectedKFACBasicFB(3, 2).init_inverses(state)


@pytest.mark.parametrize(
    "block",
    [
        kc.blocks.KFACReduceFB(kc.blocks.FullyConnectedMultiIndepFB(3, 2)),
        kc.blocks.TransposedConvKFCBasicFB(GEOMETRY, locations="input"),
        kc.blocks.FullyConnectedDiagonalFB(3, 2),
    ],
    ids=lambda block: type(block).__name__,
)
def test_blocks_that_need_gradients_are_refused(block):
    message = f"block is a {type(block).__name__}, expected"
    with pytest.raises(kc.errors.ArgumentError, match=re.escape(message)):
        kc.blocks.ForwardOnlyFB(block)
