"""No magnitude of the statistics takes the damping of a factor out of the range."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc
from kfac_core.damping import compute_pi, split_by_traces

SIZES = st.tuples(*[st.integers(1, 3000)] * 2)
RANGES = {np.float32: (-40, 37), np.float64: (-308, 307)}


def powers(dtype):
    low, high = RANGES[dtype]
    return st.one_of(
        st.just(0.0), st.floats(low, high).map(lambda e: float(dtype(10.0**e)))
    )


def check_split(dtype, damping, traces, sizes):
    """Compare the damped product with that of the exact `pi`, at extreme eigenvalues.

    ``(x + a) (y + g)`` is that of the exact split but for roundings of ``a`` and ``g``
    (32 of them in all), for the ``eps l`` of the docstring, and at the end of the range
    for ``k tiny max(1, l)`` in the smaller damping, which the larger side multiplies.
    """
    info = np.finfo(dtype)
    arrays = [dtype(trace) for trace in traces]
    backend = kc.backend_of(np.asarray(arrays[0]))
    with np.errstate(all="raise", under="ignore"):
        a, g = split_by_traces(
            backend, np.asarray(dtype(damping)), tuple(map(np.asarray, arrays)), sizes
        )
    assert a.dtype == g.dtype == dtype
    lowest = 4 * float(info.smallest_normal)
    assert lowest * 0.99 <= min(a, g)
    assert max(a, g) <= 1.01 / lowest
    mp = mpmath.mpf
    with mpmath.workdps(60):
        means = [
            max(mp(float(t)) / n, mp(float(info.smallest_normal)))
            for t, n in zip(arrays, sizes, strict=True)
        ]
        given = mp(float(dtype(damping)))
        pi = mpmath.sqrt(means[0] / means[1])
        root = mpmath.sqrt(given)
        slack = lowest * max(1, given) * sum(sizes) * max(means)
        for x in (mp(0), mp(float(arrays[0]))):
            for y in (mp(0), mp(float(arrays[1]))):
                exact = (x + pi * root) * (y + root / pi)
                found = (x + mp(float(a))) * (y + mp(float(g)))
                bound = 32 * float(info.eps) * exact + slack
                assert abs(found - exact) <= bound, (x, y)


@pytest.mark.parametrize("dtype", RANGES)
def test_the_damped_product_is_right_over_the_whole_range(dtype):
    @given(trace_a=powers(dtype), trace_g=powers(dtype), sizes=SIZES, data=st.data())
    def check(trace_a, trace_g, sizes, data):
        low, high = RANGES[dtype]
        # A damping below the least normal number is zero to some compilers.
        damping = 10.0 ** data.draw(st.floats(max(low + 3, -307), high))
        check_split(dtype, damping, (trace_a, trace_g), sizes)

    check()


@given(trace_a=powers(np.float32), trace_g=powers(np.float32))
def test_pi_itself_is_finite_and_right(trace_a, trace_g):
    a, g = np.asarray(np.float32(trace_a)), np.asarray(np.float32(trace_g))
    with np.errstate(all="raise", under="ignore"):
        pi = float(compute_pi(kc.backend_of(a), a, 1, g, 1))
    if min(trace_a, trace_g) < np.finfo(np.float32).smallest_normal:
        return
    np.testing.assert_allclose(pi, np.sqrt(float(a) / float(g)), rtol=1e-6)


GRADIENTS = [1e-5, 1e-18, 1e-20, 1e-23, 0.0]


def ways(library):
    """Return the library's ways to call a function: as it is, and compiled."""
    found = [lambda f: f]
    if library.name == "jax":
        import jax

        found.append(jax.jit)
    if library.name == "torch":
        import torch

        torch._dynamo.reset()
        found.append(lambda f: torch.compile(f, backend="aot_eager", fullgraph=True))
    return found


@pytest.mark.parametrize("swapped", [False, True])
def test_small_gradients_leave_the_damping_alone(plain_library, torch, swapped):
    library = plain_library
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2)

    def preconditioned(x, g, vector):
        state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        state = block.update_inverses(state, damping=1e-3)
        return block.multiply_inverse(state, vector)

    for way in ways(library):
        function = way(preconditioned)
        for size in GRADIENTS:
            pair = [np.ones((4, 2)), np.full((4, 2), size)]
            x, g = (
                library.asarray(y.astype(np.float32))
                for y in (reversed(pair) if swapped else pair)
            )
            vector = library.asarray(np.ones((2, 2), np.float32))
            found = library.to_numpy(function(x, g, vector))
            # The block itself, 4 size^2 at most, adds less than twice its root.
            exact = 1 / (0.001 + 4 * size * 0.001**0.5 + 4 * size**2)
            np.testing.assert_allclose(found, exact, rtol=2e-6 if size < 1e-9 else 1e-3)


def test_a_large_pi_where_the_block_counts_is_left_as_it_is():
    # The twin: nothing is cut off while the block is not below the rounding.
    traces = np.asarray(np.float64(2e6)), np.asarray(np.float64(3e-6))
    a, g = split_by_traces(kc.backend_of(traces[0]), np.asarray(1e-3), traces, (2, 3))
    np.testing.assert_allclose([a / g, a * g], [1e12, 1e-3], rtol=1e-14)


def test_confident_softmax_outputs(rng):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2)
    x = rng.normal(size=(8, 3)).astype(np.float32)
    for gap in (46.0, 50.0):
        p = np.float32(np.exp(-gap))
        g = np.tile(np.asarray([[p, -p]]), (8, 1))
        state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        state = block.update_inverses(state, damping=1e-3)
        found = block.multiply_inverse(state, np.ones((3, 2), np.float32))
        np.testing.assert_allclose(found, 1000, rtol=1e-5)
