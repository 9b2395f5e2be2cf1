"""Neither weights nor numbers of cases take a block out of the range but by its own.

With weights and damping times ``4^k`` a block is ``4^k`` times as large, and all that
is computed is so by powers of two, which round nothing within the range.
"""

from functools import partial

import numpy as np
import pytest
from block_case import NumPy, flat, tree
from block_cases import BLOCKS
from hypothesis import given
from hypothesis import strategies as st
from weighted_cases import OTHERS, SPLIT, packed

import kfac_core as kc
from kfac_core import blocks
from kfac_core.errors import ArgumentError

# Weights of 4^50, about 1e30, and in float64 of 1e276.
MOST = {"float32": 50, "float64": 460}
TIMES = np.asarray([2.0, 0.0, 1.0, 3.0])


CASES = {name: case for name, case in BLOCKS.items() if case.axis is not None} | OTHERS
# Constant is the damping of weights of one, and that of a bias beside them another.
BESIDE = {
    *("transposed", "transposed-groups", "transposed-uses"),
    *("partial bias", "tied-bias"),
}
DAMPED = [
    (name, kind)
    for name, case in CASES.items()
    for kind in case.kinds
    if kind != "constant" or name not in BESIDE
]


def drawn(name, dtype):
    rng = np.random.default_rng(5)
    case = CASES[name]

    def cast(x):
        return x if x.dtype.kind in "iu" else x.astype(dtype)

    return tree(cast, case.draw(rng, 4)), case.vector(rng, dtype)


def measured(name, kind, block, data, vector, weights, damping, num_cases=None):
    """Return a state, and what it gives that is proportional to a power of weights."""
    case = CASES[name]
    state = block.init(weights)
    state = block.update_covs(
        state, *packed(name, case, data), 0.0, weights=weights, num_cases=num_cases
    )
    state = block.update_inverses(state, damping)
    found = {
        str(exp): block.multiply_matpower(state, vector, exp)
        for exp in case.exponents(-1.0, 1.0)
    }
    if not case.inverse_alone and not case.powers_alone:
        found["0.5"] = block.multiply_cholesky(state, vector)
    return state, found | {"dense": block.full_fisher_block(state)}


def assert_scaled(library, found, expected, scale, bound):
    for exp, value in expected.items():
        power = 1.0 if exp == "dense" else float(exp)
        # The root of each, so that no scale leaves the range.
        one, other = (flat(library, x).astype(np.float64) for x in (found[exp], value))
        root = float(scale) ** (power / 2)
        one, other = one / root, other * root
        atol = bound * np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=exp)


def bound_of(name, dtype):
    # A power of a third has the rounding of its exponent, times the logarithm.
    units = 1e3 if name == "three factors" else 1e2 * CASES[name].precision / 1e-14
    return units * float(np.finfo(dtype).eps)


def damped_alike(name, kind, scale):
    """Return what is to the damping as the scale is to the weights."""
    if kind != "constant":
        return scale
    # What is added to the factors, and is to these as with weights of one.
    return 1 / scale if name == "three factors" else 1.0


@pytest.mark.parametrize("dtype", MOST)
@pytest.mark.parametrize(("name", "kind"), DAMPED)
def test_a_block_is_as_large_as_its_weights(name, kind, dtype):
    case, most = CASES[name], MOST[dtype]
    block = case.made(kind)
    data, vector = drawn(name, dtype)
    run = partial(measured, name, kind, block, data, vector)
    weights = TIMES.astype(dtype)
    _, expected = run(weights, 0.3)
    for k in (-most, -most // 2, 5, most):
        scale = float(4.0**k)
        damping = 0.3 * damped_alike(name, kind, scale)
        _, found = run(weights * np.asarray(scale, dtype), damping)
        assert_scaled(NumPy, found, expected, scale, bound_of(name, dtype))
        _, found = run(weights, damping, 4 / scale)
        assert_scaled(NumPy, found, expected, scale, bound_of(name, dtype))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dense-bias", "pi"),
        ("dense-bias", "exact"),
        ("conv-bias", "constant"),
        ("three factors", "pi"),
        ("series-2", "pi"),
        ("tied", "pi"),
    ],
)
def test_a_block_is_as_large_as_its_weights_also_compiled(jax, name, kind):
    case, dtype = CASES[name], "float32"
    block = case.made(kind)
    data, vector = tree(jax.numpy.asarray, drawn(name, dtype))
    weights = jax.numpy.asarray(TIMES.astype(dtype))
    run = jax.jit(partial(measured, name, kind, block))
    given = (4.0, 0.3)
    _, expected = run(data, vector, weights, np.float32(given[1]), np.float32(given[0]))
    for k in (-50, -21, 5, 50):
        scale = float(4.0**k)
        damping = np.float32(0.3 * damped_alike(name, kind, scale))
        for own, cases in ((scale, 4.0), (1.0, 4.0 / scale)):
            state, found = run(
                data, vector, weights * np.float32(own), damping, np.float32(cases)
            )
            assert bool(state.ok)
            assert_scaled(NumPy, found, expected, scale, bound_of(name, dtype))
    assert run._cache_size() == 1


@given(st.integers(-50, 50), st.integers(-50, 50), st.sampled_from(SPLIT[:2]))
def test_weights_and_damping_far_apart(k, d, kind):
    """In float32 as in float64, where nothing is near the end of the range."""
    block = blocks.FullyConnectedKFACBasicFB(3, 2, damping_type=kind)
    found = []
    for dtype in ("float32", "float64"):
        (x, g), vector = drawn("dense", dtype)
        state = block.update_covs(
            block.init(x), x, g, 0.0, weights=(TIMES * 4.0**k).astype(dtype)
        )
        state = block.update_inverses(state, 4.0**d)
        found.append(block.multiply_inverse(state, vector))
    # Within the condition of a factor: its largest eigenvalue over its damping.
    condition = max(1.0, 2.0 ** (k - d)) * 1e2
    atol = condition * np.finfo(np.float32).eps * np.abs(found[1]).max()
    if condition < 1e6:
        np.testing.assert_allclose(*found, rtol=0, atol=atol)


@pytest.mark.parametrize("compiled", [False, True])
def test_an_average_of_weights_far_apart(plain_library, compiled):
    library = plain_library
    if compiled and library.name != "jax":
        return
    block = blocks.FullyConnectedKFACBasicFB(1, 1)

    def inverse(one, small, vector):
        state = block.init(one)
        for weight in (1e30, 1.0, 1e-30):
            weights = small * 0 + weight
            state = block.update_covs(state, one, one, 0.5, weights=weights)
        state = block.update_inverses(state, 1e28)
        return block.multiply_inverse(state, vector), block.multiply(state, vector)

    if compiled:
        import jax

        inverse = jax.jit(inverse)
    one = library.asarray(np.ones((4, 1), np.float32))
    vector = library.asarray(np.ones((1, 1), np.float32))
    found, product = map(library.to_numpy, inverse(one, one[:, 0], vector))
    block = 1e30 / 7
    exact = block + 2 * np.sqrt(block * 1e28) + 1e28
    np.testing.assert_allclose(found * exact, 1, rtol=1e-5)
    np.testing.assert_allclose(product / exact, 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("weight", "damping", "expected"),
    [(1e-20, 1e-23, 1e20 / (1 + 1e-3**0.5) ** 2), (1e25, 1e22, 0.1e-24 / 0.1001001)],
)
def test_weights_beyond_the_root_of_the_range(plain_library, weight, damping, expected):
    library = plain_library
    one = library.asarray(np.ones((5, 1), np.float32))
    block = blocks.FullyConnectedKFACBasicFB(1, 1)
    state = block.update_covs(
        block.init(one), one, one, 0.0, weights=one[:, 0] * weight
    )
    dense = library.to_numpy(block.full_fisher_block(state))
    np.testing.assert_allclose(dense, weight, rtol=1e-6)
    state = block.update_inverses(state, damping)
    found = library.to_numpy(block.multiply_inverse(state, one[:1, :]))
    exact = 1 / (np.sqrt(weight) + np.sqrt(damping)) ** 2
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_a_constant_damping_keeps_its_digits(plain_library):
    library = plain_library
    one = library.asarray(np.ones((5, 1), np.float32))
    block = blocks.FullyConnectedKFACBasicFB(1, 1, damping_type="constant")
    state = block.update_covs(block.init(one), one, one, 0.0, weights=one[:, 0] * 1e10)
    state = block.update_inverses(state, 1e11)
    found = library.to_numpy(block.multiply_inverse(state, one[:1, :]))
    np.testing.assert_allclose(found * 1e10 * (1 + 1e11) ** 2, 1, rtol=1e-5)


@pytest.mark.parametrize("kind", SPLIT)
def test_the_latest_rows_are_damped_as_their_matrix(kind):
    """Whichever sides are of low rank: with weights, too, they are the same block."""
    (x, g), vector = drawn("dense", "float64")
    found = []
    for sides in ({}, {"input_max_rows": 8}, {"output_max_rows": 8}):
        block = blocks.FullyConnectedKFACBasicFB(3, 2, damping_type=kind, **sides)
        state = block.init(x)
        for weights in (TIMES, TIMES / 7):
            state = block.update_covs(state, x, g, 0.5, weights=weights)
        state = block.update_inverses(state, 0.3)
        found.append(block.multiply_inverse(state, vector))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-12)


def test_the_power_one_has_the_weights_of_now():
    (x, g), vector = drawn("dense", "float64")
    block = blocks.FullyConnectedKFACBasicFB(3, 2)
    state = block.update_covs(block.init(x), x, g, 0.0, weights=TIMES)
    state = block.update_inverses(state, 0.0)
    state = block.update_covs(state, x, g, 0.0, weights=TIMES * 100)
    dense = block.full_fisher_block(state)
    np.testing.assert_allclose(
        block.multiply(state, vector).ravel(), dense @ vector.ravel(), rtol=1e-12
    )


# What is out of the range.


@pytest.mark.parametrize("kind", ["pi", "exact"])
def test_statistics_below_the_range_leave_the_damping_alone(plain_library, kind):
    library = plain_library
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2, damping_type=kind)
    for size, other in ((1.0, 1e-30), (1e10, 1e-25), (1e-30, 1e-30)):
        x, g = (
            library.asarray(np.full((4, 2), of, np.float32)) for of in (size, other)
        )
        state = block.update_covs(block.init(x), x, g, 0.0)
        state = block.update_inverses(state, 1e-3)
        vector = library.asarray(np.ones((2, 2), np.float32))
        found = library.to_numpy(block.multiply_inverse(state, vector))
        np.testing.assert_allclose(found, 1000, rtol=1e-4)


def test_a_scaled_loss_has_the_block_that_is_below_the_range():
    """Gradients times ``s`` and the damping times ``s^2``, where a factor is zero."""
    block = kc.blocks.FullyConnectedKFACBasicFB(1, 1, damping_type="exact")
    one = np.ones((1, 1), np.float32)
    found = []
    for scale in (1.0, 1e10):
        g = one * np.float32(1e-25 * scale)
        state = block.update_covs(block.init(one), one * np.float32(1e15), g, 0.0)
        state = block.update_inverses(state, 1e-20 * scale**2)
        found.append(float(block.multiply_inverse(state, one)[0, 0]) * scale**2)
    # The twin: as they are, the damping alone is left of them.
    np.testing.assert_allclose(found, [1e20, 1e20 / 2], rtol=1e-4)


REFUSED = {
    "many": ({"weights": 1e38}, "num_cases make the mean weight"),
    "few": ({"weights": 2e-38, "num_cases": 1e3}, "num_cases make the mean weight"),
    "no cases": ({"num_cases": 1e-38}, "num_cases make the mean weight"),
}


@pytest.mark.parametrize("name", ["dense", "conv-bias", "three factors", "tied"])
@pytest.mark.parametrize("why", REFUSED)
def test_a_mean_weight_out_of_the_range_is_refused(name, why):
    options, message = REFUSED[why]
    case = CASES[name]
    block = case.made(case.kinds[0], name="fc7")
    data, _ = drawn(name, "float32")
    data = tree(lambda x: x if x.dtype.kind in "iu" else x * np.float32(0.01), data)
    options = dict(options)
    if "weights" in options:
        options["weights"] = np.full(4, options["weights"], np.float32)
    state = block.init(np.zeros(1, np.float32))
    with pytest.raises(ArgumentError, match=f"fc7.*{message}"):
        block.update_covs(state, *packed(name, case, data), 0.0, **options)


@pytest.mark.parametrize("name", ["dense", "three factors", "tied"])
def test_a_mean_weight_out_of_the_range_keeps_a_traced_state(jax, name):
    case = CASES[name]
    block = case.made(case.kinds[0])
    data, _ = tree(jax.numpy.asarray, drawn(name, "float32"))
    data = tree(lambda x: x if x.dtype.kind == "i" else x * 0.01, data)
    ones = jax.numpy.ones(4, jax.numpy.float32)

    @jax.jit
    def fold(state, weights, num_cases, ema_weight):
        return block.update_covs(
            state,
            *packed(name, case, data),
            0.5,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
        )

    old = fold(block.init(ones), ones, 4.0, 1.0)
    assert bool(old.ok)
    # The last overflows in the average alone.
    for weight, cases, ema in (
        (1e38, 4.0, 1.0),
        (2e-38, 1e3, 1.0),
        (1.0, 1e-38, 1.0),
        (1e21, 4.0, 1e18),
    ):
        kept = fold(old, ones * np.float32(weight), cases, ema)
        assert not bool(kept.ok)
        for new, before in zip(*map(jax.tree.leaves, (kept, old)), strict=True):
            if new.dtype != bool:
                np.testing.assert_array_equal(new, before)


def test_cases_times_locations_out_of_the_range_are_refused():
    case = CASES["conv-diagonal"]
    data, _ = drawn("conv-diagonal", "float32")
    block = case.made(name="conv3")
    state = block.init(np.zeros(1, np.float32))
    factor = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry((2, 2, 1, 2), padding="VALID"), name="conv3"
    )
    with pytest.raises(ArgumentError, match=r"conv3: num_cases is 2e\+38"):
        factor.update_cov(factor.init(data[0]), data[0], 0.0, num_cases=2e38)
    block.update_covs(state, *data, 0.0, num_cases=2e30)
