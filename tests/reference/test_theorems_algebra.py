"""Kronecker algebra and damping of the blocks.

Here the Kronecker product is what it is, exact or not: its powers, and what damping
and scaling do to them, are held against dense matrices.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import assert_close, assert_differs
from theorem_cases import (
    EXAMPLES,
    SEEDS,
    as_matrix,
    fitted,
    tolerance,
)

from kfac_core.reference import (
    Conv2D,
    Dense,
    Embedding,
    LayerData,
    block_for,
)

DAMPING_TYPES = ["pi", "off", "constant", "exact"]
POWERS = (-1, -0.5, 0.5, 1)
DAMPINGS = st.sampled_from([1e-3, 0.1, 2.0])

# Layers with data of random size: their number of uses in a case, and their inputs.
CASES = {
    "dense": (Dense(3, 2), 1, lambda rng, n: rng.standard_normal((n, 3))),
    "dense-no-bias": (
        Dense(1, 3, False),
        1,
        lambda rng, n: rng.standard_normal((n, 1)),
    ),
    "convolution": (
        Conv2D((2, 1, 1, 2), padding="VALID"),
        6,
        lambda rng, n: rng.standard_normal((n, 3, 3, 1)),
    ),
    "embedding": (Embedding(4, 2), 1, lambda rng, n: rng.integers(4, size=(n, 2))),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def random_data(case, seed, batch=4, sources=2):
    """A layer's inputs, and gradients that have nothing to do with any network."""
    layer, _, inputs = case
    rng = np.random.default_rng(seed)
    x = inputs(rng, batch)
    shape = layer.output_shape(x)
    return LayerData(x, tuple((rng.standard_normal(shape),) for _ in range(sources)))


def factors_of(block, state):
    a = block.input_factor.get_cov(state.input_factor)
    return a, block.output_factor.get_cov(state.output_factor)


def damped(a, g, uses, damping, damping_type):
    """The dense damped block, by the formulas of the paper."""
    if damping_type == "exact":
        return uses * np.kron(a, g) + damping * np.eye(len(a) * len(g))
    each = damping / uses
    ratio = (np.trace(a) / len(a)) / (np.trace(g) / len(g))
    of_a, of_g = {
        "pi": (np.sqrt(ratio * each), np.sqrt(each / ratio)),
        "off": (np.sqrt(each), np.sqrt(each)),
        "constant": (each, each),
    }[damping_type]
    return uses * np.kron(a + of_a * np.eye(len(a)), g + of_g * np.eye(len(g)))


def power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * values**exp @ vectors.T


def template_of(layer):
    return tuple(np.zeros(shape) for shape in layer.param_shapes)


@given(seed=SEEDS)
def test_t20_the_block_is_a_kronecker_product_of_the_row_major_vector(case, seed):
    layer, uses, _ = case
    block = block_for(layer)
    state = fitted(block, random_data(case, seed))
    a, g = factors_of(block, state)
    dense = block.full_fisher_block(state)
    assert_close(dense, uses * np.kron(a, g))
    v = np.random.default_rng(seed).standard_normal((len(a), len(g)))
    assert_close(dense @ v.reshape(-1), (uses * a @ v @ g).reshape(-1))


@EXAMPLES
def test_t20_the_reverse_order_is_another_matrix(seed):
    block = block_for(Dense(3, 2))
    state = fitted(block, random_data(CASES["dense"], seed))
    a, g = factors_of(block, state)
    assert_differs(block.full_fisher_block(state), np.kron(g, a))


@pytest.mark.parametrize("damping_type", DAMPING_TYPES)
@given(seed=SEEDS, damping=DAMPINGS)
def test_t21_powers_are_those_of_the_damped_block(case, damping_type, seed, damping):
    layer, uses, _ = case
    block = block_for(layer, damping_type=damping_type, matpowers=POWERS)
    state = block.update_inverses(fitted(block, random_data(case, seed)), damping)
    matrix = damped(*factors_of(block, state), uses, damping, damping_type)
    for exp in POWERS:
        mine = as_matrix(
            lambda v, e=exp: block.multiply_matpower(state, v, e), template_of(layer)
        )
        assert_close(mine, power(matrix, exp), tolerance(matrix))


@pytest.mark.parametrize("damping_type", DAMPING_TYPES)
@given(seed=SEEDS, damping=DAMPINGS)
def test_t21_cholesky_factors_are_those_of_the_damped_block(
    case, damping_type, seed, damping
):
    layer, uses, _ = case
    block = block_for(
        layer, damping_type=damping_type, cholesky=True, cholesky_inverse=True
    )
    state = block.update_inverses(fitted(block, random_data(case, seed)), damping)
    matrix = damped(*factors_of(block, state), uses, damping, damping_type)

    def of(verb, **options):
        return as_matrix(lambda v: verb(state, v, **options), template_of(layer))

    factor = of(block.multiply_cholesky)
    inverse = of(block.multiply_cholesky_inverse)
    assert_close(factor @ factor.T, matrix, tolerance(matrix))
    assert_close(inverse @ factor, np.eye(len(matrix)), tolerance(matrix))
    assert_close(of(block.multiply_cholesky, transpose=True), factor.T)
    assert_close(of(block.multiply_cholesky_inverse, transpose=True), inverse.T)


@given(seed=SEEDS, damping=DAMPINGS)
def test_t22_exact_damping_has_the_determinant_of_the_eigenvalues(case, seed, damping):
    layer, uses, _ = case
    block = block_for(layer, damping_type="exact")
    state = block.update_inverses(fitted(block, random_data(case, seed)), damping)
    a = block.input_factor.get_eigenvalues(state.input_factor)
    g = block.output_factor.get_eigenvalues(state.output_factor)
    mine = np.log(uses * np.outer(a, g) + damping).sum()
    matrix = damped(*factors_of(block, state), uses, damping, "exact")
    assert mine == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-10, abs=1e-10)


def excess(layer, data, damping, damping_type):
    """What a damped block has beyond ``F + damping I``, over the damping: its least."""
    block = block_for(layer, damping_type=damping_type)
    state = block.update_inverses(fitted(block, data), damping)
    mine = as_matrix(lambda v: block.multiply(state, v), template_of(layer))
    dense = block.full_fisher_block(state)
    more = mine - dense - damping * np.eye(len(dense))
    rounding = tolerance() * np.linalg.norm(mine) / damping
    return np.linalg.eigvalsh((more + more.T) / 2).min() / damping, rounding


@pytest.mark.parametrize("damping_type", ["pi", "off"])
@given(seed=SEEDS, damping=DAMPINGS)
def test_t23_damping_of_the_factors_damps_no_less(case, damping_type, seed, damping):
    least, rounding = excess(case[0], random_data(case, seed), damping, damping_type)
    assert least > -rounding


@EXAMPLES
def test_t23_constant_damping_of_small_factors_damps_less(seed):
    x, sources = random_data(CASES["dense"], seed)
    data = LayerData(1e-3 * x, tuple((1e-3 * g,) for (g,) in sources))
    least, _ = excess(CASES["dense"][0], data, 0.01, "constant")
    assert least == pytest.approx(-1, abs=0.02)


def moved_between_factors(seed, damping_type, scale=8.0):
    """The inverse for ``(A, G)``, and for ``(t A, G / t)``: one Fisher, two gauges."""
    layer = Dense(3, 2, has_bias=False)
    x, sources = random_data((layer, *CASES["dense"][1:]), seed)
    block = block_for(layer, damping_type=damping_type)
    inverses = []
    for t in (1.0, scale):
        data = LayerData(t * x, tuple((g / t,) for (g,) in sources))
        state = block.update_inverses(fitted(block, data), damping=0.1)
        inverses.append(
            as_matrix(
                lambda v, s=state: block.multiply_inverse(s, v), template_of(layer)
            )
        )
    return inverses


@pytest.mark.parametrize("damping_type", ["pi", "exact"])
@given(seed=SEEDS)
def test_t23_some_dampings_do_not_see_how_scale_is_shared(damping_type, seed):
    assert_close(*moved_between_factors(seed, damping_type), 1e-11)


@pytest.mark.parametrize("damping_type", ["constant", "off"])
@EXAMPLES
def test_t23_and_others_do(damping_type, seed):
    assert_differs(*moved_between_factors(seed, damping_type), by=0.1)


@pytest.mark.parametrize("damping_type", DAMPING_TYPES)
@given(seed=SEEDS)
def test_t32_equal_eigenvalues_leave_the_inverse_unique(damping_type, seed):
    rng = np.random.default_rng(seed)
    layer = Dense(3, 2, has_bias=False)
    x, _ = np.linalg.qr(rng.standard_normal((6, 3)))  # so that A is a multiple of I
    data = LayerData(x, ((rng.standard_normal((6, 2)),),))
    block = block_for(layer, damping_type=damping_type)
    state = block.update_inverses(fitted(block, data), damping=0.1)
    mine = as_matrix(lambda v: block.multiply_inverse(state, v), template_of(layer))
    matrix = damped(*factors_of(block, state), 1, 0.1, damping_type)
    assert_close(mine, np.linalg.inv(matrix), tolerance(matrix))


@given(seed=SEEDS)
def test_the_inverse_shrinks_as_damping_grows(case, seed):
    layer, _, _ = case
    block = block_for(layer)
    state = fitted(block, random_data(case, seed))
    v = tuple(
        np.random.default_rng(seed).standard_normal(shape)
        for shape in layer.param_shapes
    )
    norms, products = [], []
    for damping in (1e-3, 1e-1, 1e1, 1e9):
        step = block.multiply_inverse(block.update_inverses(state, damping), v)
        norms.append(sum((s * s).sum() for s in step))
        products.append(sum((s * p).sum() for s, p in zip(step, v, strict=True)))
    assert norms == sorted(norms, reverse=True)
    assert min(products) > 0
    for mine, expected in zip(step, v, strict=True):
        assert_close(1e9 * mine, expected, 1e-2)  # I / damping in the limit
