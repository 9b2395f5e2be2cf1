"""Every array library computes what NumPy does, by itself and as a program."""

import numpy as np
import pytest
from block_case import NumPy, asarrays
from block_cases import BLOCKS
from scipy.sparse.linalg import cg, eigsh
from weighted_cases import OTHERS, packed

import kfac_core as kc
from kfac_core import tree
from kfac_core.spectral import SpectralBlock

CASES = {**BLOCKS, **OTHERS}
NAMES = (
    "dense-bias",
    "dense-wide",
    "conv-bias",
    "embedding",
    "depthwise",
    "three factors",
)


@pytest.mark.parametrize("name", NAMES)
def test_libraries_agree(library, name, rng):
    case = CASES[name]
    curvature = SpectralBlock(case.made(case.kinds[0]))
    block = curvature.block
    data, vector = packed(name, case, case.draw(rng, 6)), case.vector(rng)
    state = block.update_covs(
        block.init(np.zeros(1)), *data, ema_decay=0.5, **case.extra
    )

    def computed(library, state):
        vectors = asarrays(library, vector)

        def of(state, vectors):
            spectrum = curvature.decompose(state)
            return (
                curvature.logdet(spectrum, 0.3, 7.0),
                curvature.multiply_matpower(spectrum, vectors, -0.5, 0.3),
                curvature.diagonal(spectrum, vectors, -1, 0.3),
            )

        return tree.map(library.to_numpy, library.compiled(of)(state, vectors))

    expected = computed(NumPy, state)
    found = computed(library, library.moved(state))
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-11 * np.abs(y).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_iterations_of_scipy_run_on_every_library(library, dtype, rng):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2, True)
    x, g = (rng.normal(size=(6, n)).astype(dtype) for n in (3, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    dense = block.full_fisher_block(state)
    curvature = SpectralBlock(block)
    spectrum = library.moved(curvature.decompose(state))
    like = asarrays(library, (np.zeros((3, 2), dtype), np.zeros(2, dtype)))
    error = 100 * np.finfo(dtype).eps
    operator = curvature.as_linear_operator(spectrum, like)
    assert operator.dtype == dtype
    (largest,) = eigsh(operator, 1, return_eigenvectors=False)
    np.testing.assert_allclose(largest, np.linalg.eigvalsh(dense)[-1], rtol=error)
    # The iteration solves with the damped matrix; the inverse does that at once.
    damped = curvature.as_linear_operator(spectrum, like, damping=1.0)
    b = rng.normal(size=len(dense)).astype(dtype)
    solved, failure = cg(damped, b, rtol=error)
    assert not failure
    inverse = curvature.as_linear_operator(spectrum, like, -1, damping=1.0)
    np.testing.assert_allclose(inverse @ b, solved, rtol=0, atol=error * abs(b).max())


@pytest.fixture
def fitted(rng):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2)
    x, g = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    return SpectralBlock(block), state, block.full_fisher_block(state)


def trace_of_inverse(dense, damping):
    return np.trace(np.linalg.inv(dense + damping * np.eye(len(dense))))


def test_the_evidence_has_a_gradient_in_torch(torch, fitted):
    curvature, state, dense = fitted
    spectrum = curvature.decompose(
        tree.map(lambda x: torch.asarray(np.array(x)), state)
    )
    damping = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    curvature.logdet(spectrum, damping).backward()
    expected = trace_of_inverse(dense, 0.3)
    np.testing.assert_allclose(float(damping.grad), expected, rtol=1e-11)


def test_the_evidence_has_a_gradient_in_jax(jax, fitted):
    curvature, state, dense = fitted
    spectrum = curvature.decompose(tree.map(jax.numpy.asarray, state))
    gradient = jax.jit(jax.grad(lambda d: curvature.logdet(spectrum, d)))(0.3)
    np.testing.assert_allclose(
        float(gradient), trace_of_inverse(dense, 0.3), rtol=1e-11
    )


def test_samples_of_jax_have_the_covariance(jax, fitted):
    curvature, state, dense = fitted
    spectrum = curvature.decompose(tree.map(jax.numpy.asarray, state))
    like = jax.numpy.zeros((3, 2))
    keys = jax.random.split(jax.random.key(0), 20_000)

    def draw(key):
        return curvature.sample(spectrum, key, like, damping=0.3)

    drawn = np.asarray(jax.jit(jax.vmap(draw))(keys)).reshape(-1, 6)
    expected = np.linalg.inv(dense + 0.3 * np.eye(6))
    # A covariance of N samples has the variance (c_ij^2 + c_ii c_jj) / N.
    spread = np.sqrt(
        (expected**2 + np.outer(np.diag(expected), np.diag(expected))) / len(drawn)
    )
    assert (np.abs(drawn.T @ drawn / len(drawn) - expected) < 5 * spread).all()
