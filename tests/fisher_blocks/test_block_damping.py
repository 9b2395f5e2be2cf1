"""The damping of a block is split among its factors as its name says."""

import numpy as np
import pytest
from block_case import NumPy, asarrays, damped, flat
from block_cases import BLOCKS, KRONECKER
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc
from kfac_core.damping import compute_pi, normalize_damping, split_damping

REPEATED = [name for name, case in KRONECKER.items() if case.make().is_repeated]
LINEAR = [name for name, case in KRONECKER.items() if case.linear]
POSITIVE = st.floats(1e-6, 1e6)


def scalars(library, *values):
    arrays = [library.asarray(np.asarray(value)) for value in values]
    return kc.backend_of(*arrays), *arrays


@given(trace_a=POSITIVE, trace_g=POSITIVE, sizes=st.tuples(*[st.integers(1, 9)] * 2))
def test_pi_is_the_root_of_the_ratio_of_mean_eigenvalues(
    library, trace_a, trace_g, sizes
):
    backend, a, g = scalars(library, trace_a, trace_g)
    found = float(compute_pi(backend, a, sizes[0], g, sizes[1]))
    expected = np.sqrt((trace_a / sizes[0]) / (trace_g / sizes[1]))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("traces", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_pi_is_one_where_a_trace_is_zero(library, traces):
    backend, a, g = scalars(library, *traces)
    assert float(compute_pi(backend, a, 2, g, 3)) == 1


def test_t21_pi_of_the_original(library):
    # Of diag(1, 2, 0, 1) and a 2x2 matrix of ones.
    backend, a, g = scalars(library, 4.0, 2.0)
    assert float(compute_pi(backend, a, 4, g, 2)) == 1


@given(damping=POSITIVE, pi=POSITIVE)
def test_the_product_of_the_split_is_the_damping(library, damping, pi):
    backend, d, p = scalars(library, damping, pi)
    of_a, of_g = map(float, split_damping(backend, "pi", d, p))
    np.testing.assert_allclose(of_a * of_g, damping, rtol=4 * np.finfo(float).eps)
    np.testing.assert_allclose(of_a / of_g, pi**2, rtol=1e-14)
    of_a, of_g = map(float, split_damping(backend, "off", d, p))
    np.testing.assert_allclose([of_a**2, of_g**2], damping, rtol=1e-15)
    assert [float(x) for x in split_damping(backend, "constant", d, p)] == [damping] * 2


@pytest.mark.parametrize(("power", "expected"), [(0, 6.0), (1, 1.5), (0.5, 3.0)])
def test_damping_is_divided_by_a_power_of_the_uses(library, power, expected):
    _, damping, uses = scalars(library, 6.0, 4.0)
    assert float(normalize_damping(damping, uses, power)) == expected


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", REPEATED)
def test_damping_is_normalized_by_locations_and_uses(name, power, rng):
    case = BLOCKS[name]
    block = case.make(normalize_damping_power=power)
    data, vector = case.draw(rng, 6), case.vector(rng)
    state = block.update_inverses(case.updated(NumPy, block, data), 0.7)
    dense = damped(case.fisher(*data), 0.7, power=power)
    found = flat(NumPy, block.multiply_inverse(state, vector))
    expected = np.linalg.solve(dense, flat(NumPy, vector))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", LINEAR)
def test_the_pi_split_does_not_see_how_scale_is_shared(name, rng):
    # (t A, G / t) stand for one matrix; with pi, so do they once damped.
    case = KRONECKER[name]
    block = case.make()
    data = case.draw(rng, 6)
    state = case.updated(NumPy, block, data)
    a, g = state.input_factor, state.output_factor
    scaled = state._replace(
        input_factor=a._replace(cov=a.cov._replace(total=a.cov.total * 16)),
        output_factor=g._replace(cov=g.cov._replace(total=g.cov.total / 16)),
    )
    vector = case.vector(rng)
    found = [
        flat(NumPy, block.multiply_inverse(block.update_inverses(s, 0.1), vector))
        for s in (state, scaled)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


@pytest.mark.parametrize("name", BLOCKS)
def test_large_damping_is_division_by_it(name, rng):
    case = BLOCKS[name]
    block = case.make()
    vector = case.vector(rng)
    state = case.updated(NumPy, block, case.draw(rng, 6))
    damping = 1e18
    found = block.multiply_inverse(block.update_inverses(state, damping), vector)
    np.testing.assert_allclose(
        flat(NumPy, found) * damping, flat(NumPy, vector), rtol=1e-7
    )


def test_a_0d_array_is_a_damping_as_a_number_is(library, rng):
    case = BLOCKS["dense-bias"]
    block, vector = case.make(), asarrays(library, case.vector(rng))
    state = case.updated(library, block, case.draw(rng, 6))
    found = [
        flat(library, block.multiply_inverse(block.update_inverses(state, d), vector))
        for d in (0.3, np.float64(0.3), library.asarray(np.asarray(0.3)))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("kind", ["pi", "off", "constant"])
def test_zero_statistics_are_damping_alone(library, kind):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2, damping_type=kind)
    x, g = library.asarray(np.zeros((4, 3))), library.asarray(np.zeros((4, 2)))
    state = block.update_covs(block.init(x), x, g, ema_decay=0.5)
    state = block.update_inverses(state, 0.25)
    ones = library.asarray(np.ones((3, 2)))
    found = library.to_numpy(block.multiply_inverse(state, ones))
    expected = 16.0 if kind == "constant" else 4.0
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_diagonal_convolution_normalizes_by_its_locations(library, power, rng):
    # 2 x 3 locations in one batch and 4 x 3 in another: 9 in the mean of both.
    block = kc.blocks.ConvDiagonalFB(
        kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID", strides=(1, 1)),
        normalize_damping_power=power,
    )
    v = rng.normal(size=(2, 2, 1, 2))
    state = block.init(library.asarray(v))
    for height in (3, 5):
        x = library.asarray(rng.normal(size=(4, height, 4, 1)))
        g = library.asarray(rng.normal(size=(4, height - 1, 3, 2)))
        state = block.update_covs(state, x, g, ema_decay=1.0)
    state = block.update_inverses(state, 0.3)
    diagonal = np.diagonal(library.to_numpy(block.full_fisher_block(state)))
    expected = v.ravel() / (diagonal + 0.3 * 9 ** (1 - power))
    found = flat(library, block.multiply_inverse(state, library.asarray(v)))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
