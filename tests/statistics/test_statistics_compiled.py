"""The second moment of patches, compiled: chunks, strips and zeros."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kfac_core.fisher_blocks import ConvKFCBasicFB
from kfac_core.registry import load_backend
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.second_moment import (
    patch_rows,
    patch_second_moment,
    planned_moment,
)
from kfac_core.statistics.patches.shifted.plan import Plan
from kfac_core.statistics.patches.window import Window

SAME = Window((3, 3), (1, 1), (1, 1), "SAME")


@pytest.fixture(scope="module")
def compiled():
    """Return moments that JAX computes, of all plans and the one that is chosen."""
    jax = pytest.importorskip("jax")

    def moments(x, geometry, cases):
        backend, count = load_backend("jax"), count_of(x, geometry)

        def function(x):
            return [
                planned_moment(backend, x, geometry, Plan(1, cases), count),
                planned_moment(backend, x, geometry, Plan(2, cases), count),
                patch_second_moment(backend, [x], geometry),
            ]

        with jax.enable_x64(True):
            return [*map(np.asarray, jax.jit(function)(jax.numpy.asarray(x)))]

    return moments


def count_of(x, geometry):
    return x.shape[0] * geometry.num_locations(x)


def by_patches(x, geometry):
    rows = patch_rows(load_backend("numpy"), np.float64(x), geometry)
    rows = rows.reshape(-1, rows.shape[-1])
    return rows.T @ rows / len(rows)


def bound_of(dtype, count):
    """Return what a mean of so many products may be off by, over its magnitude.

    Of whatever plan, an entry is a sum of the products of its pixels and of zeros, in
    some order: of `count` roundings at most (Higham, Accuracy and Stability of
    Numerical Algorithms, 3.1). One more is that of the mean of two triangles, and one
    of the division. What it is compared with is such a sum in float64.
    """

    def gamma(roundings, dtype):
        unit = np.finfo(dtype).eps / 2
        return roundings * unit / (1 - roundings * unit)

    return gamma(count + 2, dtype) + gamma(count + 1, np.float64)


def excess(found, x, geometry):
    """Return the largest error of an entry, in units of the bound of its sum."""
    exact, magnitude = by_patches(x, geometry), by_patches(np.abs(x), geometry)
    bound = bound_of(x.dtype, count_of(x, geometry)) * magnitude
    # Of no pixel at all a sum is zero, and so is its bound.
    return (np.abs(found - exact) / np.where(bound > 0, bound, 1e-300)).max()


def check(compiled, x, geometry, cases):
    """Compare with the patches, entry by entry, in units of the sum's bound."""
    for found in compiled(x, geometry, cases):
        assert found.dtype == x.dtype
        assert np.array_equal(found, found.T)
        assert excess(found, x, geometry) <= 1


def test_a_bound_sees_a_pixel_that_is_left_out(rng):
    for dtype in (np.float32, np.float64):
        x = (1 + rng.normal(size=(4, 13, 13, 2))).astype(dtype)
        without = x.copy()
        without[1, 6, 6] = 0
        assert excess(by_patches(without, SAME), x, SAME) > 10
        assert excess(by_patches(x, SAME), x, SAME) <= 1


@st.composite
def geometries(draw):
    """Return a geometry of two axes, and sizes that it fits."""

    def pair(element):
        return draw(st.tuples(element, element))

    kernel, dilation = pair(st.integers(1, 3)), pair(st.integers(1, 2))
    padding = draw(st.sampled_from(["SAME", "VALID", ((2, 1), (0, 3))]))
    strides = pair(st.integers(1, 3))
    spatial = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    spatial = tuple(size + draw(st.integers(0, 9)) for size in spatial)
    return Window(kernel, strides, dilation, padding), spatial


@given(
    where=geometries(),
    dtype=st.sampled_from([np.float32, np.float64]),
    cases=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=12, deadline=None)
def test_any_geometry(compiled, where, dtype, cases, seed):
    geometry, spatial = where
    x = np.random.default_rng(seed).normal(1.0, 1.0, size=(3, *spatial, 2))
    check(compiled, x.astype(dtype), geometry, cases)


@pytest.mark.parametrize(
    ("shape", "cases"),
    [
        ((4, 13, 13, 33), 1),  # strips, zeros around, transposed rows, a loop
        ((5, 5, 6, 130), 2),  # parts instead of zeros, a loop and a rest
    ],
)
def test_wide_images(compiled, rng, shape, cases):
    x = (1 + rng.normal(size=shape)).astype(np.float32)
    check(compiled, x, SAME, cases)


@given(
    kernel=st.sampled_from([(3, 2), (3, 3), (5, 1), (2, 3)]),
    strides=st.sampled_from([(1, 1), (1, 2), (2, 1)]),
    rows=st.integers(9, 14),
    channels=st.integers(7, 12),
    batch=st.integers(2, 3),
)
@example(kernel=(3, 2), strides=(1, 1), rows=11, channels=10, batch=2)
@settings(max_examples=3, deadline=None)
def test_sums_of_products_are_symmetric(
    compiled, kernel, strides, rows, channels, batch
):
    # Of dilated kernels a block is the sum of some products, and so is its mirror.
    geometry = Window(kernel, strides, (2, 1), "VALID")
    shape = (batch, rows, 12, channels)
    x = np.random.default_rng(channels).normal(1.0, 1.0, shape).astype(np.float32)
    check(compiled, x, geometry, 1)


@pytest.mark.parametrize("channels", [15, 16, 17])
def test_pytorch_compiles_shifts_in_one_frame(torch, channels, rng):
    from torch._dynamo.testing import CompileCounterWithBackend

    def normal(*shape):
        return torch.from_numpy(rng.normal(size=shape))

    torch._dynamo.reset()
    counting = CompileCounterWithBackend("eager")
    block = ConvKFCBasicFB(ConvolutionGeometry((3, 3, channels, 16), padding="SAME"))

    def update(state, inputs, gradients):
        return block.update_covs(state, inputs, gradients, 0.9)

    compiled = torch.compile(update, fullgraph=True, backend=counting)
    batch = normal(4, 12, 12, channels), normal(4, 12, 12, 16)
    state = block.init(like=batch[0])
    found, expected = compiled(state, *batch), update(state, *batch)
    assert counting.frame_count == 1
    for factor in ("input_factor", "output_factor"):
        totals = [getattr(s, factor).cov.total.numpy() for s in (found, expected)]
        np.testing.assert_allclose(*totals, rtol=0, atol=1e-12)
