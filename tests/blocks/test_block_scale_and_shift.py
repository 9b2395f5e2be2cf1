"""Blocks of a scale and a shift are damped by the damping itself."""

import numpy as np
import pytest

import kfac_core as kc

X = np.asarray([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]])
G = np.asarray([[[1.0, -1.0], [2.0, 0.0]], [[1.0, 1.0], [0.0, 3.0]]])
VECTOR = (np.asarray([1.0, 2.0]), np.asarray([3.0, 4.0]))
FULL = np.asarray(
    [
        [24.5, -7, 10.5, -3.5],
        [-7, 2.5, -2.5, 3],
        [10.5, -2.5, 5, 0.5],
        [-3.5, 3, 0.5, 8.5],
    ]
)
SERVED = {"matpowers": (-1, -0.5), "cholesky": True, "cholesky_inverse": True}
# The original's: the Fisher, and the inverse with damping 0.1 times the vector.
KNOWN = {
    kc.ScaleAndShiftFullFB: (FULL, [-2.794855, 11.815919, 12.676737, -5.531177]),
    kc.ScaleAndShiftDiagonalFB: (
        np.diag(np.diagonal(FULL)),
        [0.04065, 0.769231, 0.588235, 0.465116],
    ),
}
every_block = pytest.mark.parametrize("make", KNOWN)


def flat(library, params):
    return np.concatenate([library.to_numpy(part).ravel() for part in params])


@every_block
def test_numbers_of_the_original(library, make):
    fisher, inverse = KNOWN[make]
    block = make((2, 2), (1,), (1,), **SERVED)
    x, g = library.asarray(X), library.asarray(G)
    v = tuple(map(library.asarray, VECTOR))
    state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
    np.testing.assert_allclose(
        library.to_numpy(block.full_fisher_block(state)), fisher, rtol=1e-14
    )
    state = block.update_inverses(state, 0.1)
    found = flat(library, block.multiply_inverse(state, v))
    np.testing.assert_allclose(found, inverse, atol=1e-6)
    damped = fisher + 0.1 * np.eye(4)
    exact = np.linalg.solve(damped, [1, 2, 3, 4])
    np.testing.assert_allclose(found, exact, rtol=1e-10)
    values, vectors = np.linalg.eigh(damped)
    root = (vectors / values**0.5) @ vectors.T @ [1, 2, 3, 4]
    found = flat(library, block.multiply_matpower(state, v, -0.5))
    np.testing.assert_allclose(found, root, rtol=1e-10)
    halfway = block.multiply_cholesky(state, v, transpose=True)
    found = flat(library, block.multiply_cholesky(state, halfway))
    np.testing.assert_allclose(found, damped @ [1, 2, 3, 4], rtol=1e-12)
    back = block.multiply_cholesky(state, v)
    found = flat(library, block.multiply_cholesky_inverse(state, back))
    np.testing.assert_allclose(found, [1, 2, 3, 4], rtol=1e-10)


@every_block
def test_axes_of_size_one_are_of_no_matter(make):
    wide = tuple(v.reshape(1, 1, 2) for v in VECTOR)
    plain = make.for_params((2,), (2, 2), shift_shape=(2,))
    other = make.for_params((1, 1, 2), (2, 2), shift_shape=(1, 2))
    assert plain == other == make((2, 2), (1,), (1,))
    state = plain.update_covs(plain.init(G), X, G, 0.0)
    state = plain.update_inverses(state, 0.1)
    products = plain.multiply_inverse(state, wide)
    assert [product.shape for product in products] == [(1, 1, 2)] * 2
    for found, wanted in zip(
        products, plain.multiply_inverse(state, VECTOR), strict=True
    ):
        np.testing.assert_array_equal(found.ravel(), wanted)


@every_block
def test_without_shift_the_vector_is_the_scale(make):
    block = make.for_params((2,), (2, 2))
    state = block.update_covs(block.init(G), X, G, 0.0)
    state = block.update_inverses(state, 0.1)
    fisher, _ = KNOWN[make]
    wanted = np.linalg.solve(fisher[:2, :2] + 0.1 * np.eye(2), VECTOR[0])
    np.testing.assert_allclose(
        block.multiply_inverse(state, VECTOR[0]), wanted, rtol=1e-10
    )
    with pytest.raises(kc.ShapeError, match="vector"):
        block.multiply_inverse(state, VECTOR)


@every_block
def test_one_trace_serves_every_decay_and_damping(jax, make):
    block, traces = make((2, 2), (1,), (1,)), []

    def step(state, x, g, decay, damping):
        traces.append(make)
        state = block.update_covs(state, x, g, decay)
        state = block.update_inverses(state, damping)
        return state, block.multiply_inverse(state, vector_of(jax))

    compiled = jax.jit(step)
    state, eager = block.init(jax.numpy.asarray(G)), block.init(G)
    for decay, damping in ((0.9, 0.3), (0.5, 0.1)):
        state, found = compiled(state, X, G, decay, damping)
        eager = block.update_covs(eager, X, G, decay)
        eager = block.update_inverses(eager, damping)
        for a, b in zip(found, block.multiply_inverse(eager, VECTOR), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11)
    assert len(traces) == 1


def vector_of(jax):
    return tuple(map(jax.numpy.asarray, VECTOR))


def test_statistics_compile_in_one_frame(torch):
    block = kc.ScaleAndShiftDiagonalFB.for_params((2,), (1, 2), (2, 2), (2, 2))
    x, g = torch.from_numpy(X[:, :1].copy()), torch.from_numpy(G)
    torch._dynamo.reset()
    compiled = torch.compile(block.update_covs, fullgraph=True, backend="aot_eager")
    found = compiled(block.init(g), x, g, 0.5)
    torch._dynamo.reset()
    expected = block.update_covs(block.init(g), x, g, 0.5)
    np.testing.assert_allclose(found.factor.cov.total, expected.factor.cov.total)
