"""The second moment of patches is the same by shifts as by the patches themselves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfac_core import backend_of
from kfac_core.statistics.patches.second_moment import (
    patch_rows,
    patch_second_moment,
    planned_moment,
)
from kfac_core.statistics.patches.shifted.plan import Plan, choose_plan
from kfac_core.statistics.patches.window import Window

CHUNK = 2**23
EPS = float(np.finfo(np.float32).eps)
# spatial sizes, kernel, strides, dilation, padding
FEW = {
    "1d-causal": ((6,), (3,), (1,), (1,), ((2, 0),)),
    "2d-same": ((5, 4), (3, 3), (1, 1), (1, 1), "SAME"),
    "2d-phases": ((4, 7), (3, 2), (2, 3), (1, 2), ((1, 4), (0, 2))),
    "2d-stride-past-image": ((1, 2), (1, 1), (3, 3), (1, 1), "SAME"),
    "3d-valid": ((3, 2, 4), (2, 2, 2), (1, 1, 2), (1, 1, 1), "VALID"),
}


def geometry_of(case):
    _, kernel, strides, dilation, padding = FEW[case]
    return Window(kernel, strides, dilation, padding)


def by_patches(x, geometry, has_bias=False):
    """Return the moment of one array or more in the precision of float64."""
    rows = [
        patch_rows(backend_of(t), t, geometry).reshape(-1, width_of(t, geometry))
        for t in map(np.float64, x if isinstance(x, list) else [x])
    ]
    rows = np.concatenate(rows)
    if has_bias:
        rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    return rows.T @ rows / len(rows)


def width_of(x, geometry):
    return int(np.prod(geometry.kernel)) * x.shape[-1 if geometry.channels_last else 1]


def count_of(x, geometry):
    return x.shape[0] * geometry.num_locations(x)


@st.composite
def convolutions(draw):
    """Return a geometry with an output location, and images for it."""
    rank = draw(st.integers(1, 3))

    def axes(element):
        return tuple(draw(st.lists(element, min_size=rank, max_size=rank)))

    kernel, dilation = (
        axes(st.integers(1, (5, 4, 3)[rank - 1])),
        axes(st.integers(1, 2)),
    )
    strides = axes(st.integers(1, 3))
    widths = st.tuples(st.integers(0, 6), st.integers(0, 6))
    padding = draw(st.sampled_from(["SAME", "VALID"]) | st.just(axes(widths)))
    spatial = axes(st.integers(1, (12, 7, 4)[rank - 1]))
    if not isinstance(padding, str) or padding == "VALID":
        pairs = ((0, 0),) * rank if padding == "VALID" else padding
        spatial = tuple(
            max(size, (k - 1) * d + 1 - sum(pair))
            for size, k, d, pair in zip(spatial, kernel, dilation, pairs, strict=True)
        )
    last = draw(st.booleans())
    geometry = Window(kernel, strides, dilation, padding, last)
    cases, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shape = (cases, *spatial, channels) if last else (cases, channels, *spatial)
    seed = draw(st.integers(0, 2**32 - 1))
    return geometry, np.random.default_rng(seed).normal(size=shape)


@given(convolution=convolutions(), has_bias=st.booleans(), cases=st.integers(1, 3))
@settings(max_examples=100)
def test_every_plan_gives_the_moment_of_the_patches(convolution, has_bias, cases):
    geometry, x = convolution
    expected = by_patches(x, geometry, has_bias)
    found = patch_second_moment(backend_of(x), [x], geometry, has_bias=has_bias)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    if not geometry.channels_last:
        x = np.moveaxis(x, 1, -1)
        geometry = replace(geometry, channels_last=True)
    width = width_of(x, geometry)
    for shifted in range(geometry.spatial_rank + 1):
        plan = Plan(shifted, cases)
        found = planned_moment(backend_of(x), x, geometry, plan, count_of(x, geometry))
        assert np.array_equal(found, found.T)
        np.testing.assert_allclose(found, expected[:width, :width], rtol=0, atol=1e-12)


def every_moment(backend, x, geometry):
    """Return the moments by all plans that shift, and by the one that is chosen."""
    count = count_of(x, geometry)
    plans = [Plan(shifted, 2) for shifted in range(1, geometry.spatial_rank + 1)]
    forced = [planned_moment(backend, x, geometry, plan, count) for plan in plans]
    return [*forced, patch_second_moment(backend, [x], geometry)]


def jitted(library, x, function):
    """Return the function compiled where it is slow to compile piece by piece."""
    return backend_of(x).jit(function) if library.name == "jax" else function


@pytest.mark.parametrize("case", FEW)
def test_every_library_has_every_plan(library, case, rng):
    geometry = geometry_of(case)
    images = rng.normal(size=(3, *FEW[case][0], 2))
    x = library.asarray(images)
    function = jitted(library, x, lambda x: every_moment(backend_of(x), x, geometry))
    for found in map(library.to_numpy, function(x)):
        np.testing.assert_allclose(
            found, by_patches(images, geometry), rtol=0, atol=1e-13
        )
        assert np.array_equal(found, found.T)


@pytest.mark.parametrize("case", ["2d-same", "2d-phases"])
def test_plans_under_compile_without_a_break(torch, case, rng):
    geometry = geometry_of(case)
    images = rng.normal(size=(3, *FEW[case][0], 2))
    x = torch.from_numpy(images)
    backend = backend_of(x)
    compiled = torch.compile(
        lambda x: every_moment(backend, x, geometry),
        fullgraph=True,
        backend="aot_eager",
    )
    for found in compiled(x):
        np.testing.assert_allclose(
            found, by_patches(images, geometry), rtol=0, atol=1e-13
        )


def test_taps_that_see_no_pixel_have_zeros():
    # Two taps two pixels apart, around the only one.
    geometry = Window((2,), (1,), (2,), "SAME")
    x = np.ones((1, 1, 3))
    for shifted in (0, 1):
        found = planned_moment(backend_of(x), x, geometry, Plan(shifted, 1), 1)
        np.testing.assert_array_equal(found, np.zeros((6, 6)))


def test_towers_count_by_their_patches(rng):
    geometry = geometry_of("2d-same")
    towers = [rng.normal(size=(2, 5, 4, 2)), rng.normal(size=(3, 20, 24, 2))]
    found = patch_second_moment(backend_of(towers[0]), towers, geometry, has_bias=True)
    np.testing.assert_allclose(
        found, by_patches(towers, geometry, has_bias=True), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("mean", [0.0, 3.0])
@pytest.mark.parametrize(
    ("kernel", "strides", "shape", "most"),
    [
        ((3, 3), (1, 1), (8, 24, 24, 16), 2),
        ((7, 7), (1, 1), (2, 28, 28, 3), 1),
        ((7, 7), (2, 2), (4, 32, 32, 3), 1),
        ((3, 3), (1, 1), (8, 5, 5, 16), 2),
    ],
)
def test_float32_is_as_good_by_shifts_as_by_patches(
    plain_library, kernel, strides, shape, most, mean, rng
):
    # Border strips are added, never taken away: the error is within twice that of the
    # product of the patches, and within the bound of a sum in any order.
    geometry = Window(kernel, strides, (1, 1), "SAME")
    images = (mean + rng.normal(size=shape)).astype(np.float32)
    x = plain_library.asarray(images)
    backend, count = backend_of(x), count_of(x, geometry)
    exact = by_patches(images, geometry)
    magnitude = by_patches(np.abs(images), geometry)

    def error(shifted, cases):
        plan = Plan(shifted, cases)
        found = jitted(
            plain_library,
            x,
            lambda x: planned_moment(backend, x, geometry, plan, count),
        )(x)
        return np.max(np.abs(plain_library.to_numpy(found) - exact) / magnitude)

    # One case at a time as well: neither may owe its digits to the sum of the cases.
    for cases in {shape[0], shape[0] if plain_library.name == "jax" else 1}:
        patches = error(0, cases)
        for shifted in range(1, most + 1):
            assert error(shifted, cases) <= min(2 * patches + EPS, count * EPS)


THREE, FIVE, SEVEN = (
    ((3, 3), (1, 1)),
    ((5, 5), (1, 1)),
    ((7, 7), (2, 2)),
)


@pytest.mark.parametrize(
    ("layer", "shape", "shifted"),
    [
        (THREE, (32, 56, 56, 64), 2),
        (THREE, (32, 56, 56, 128), 2),
        (THREE, (32, 28, 28, 64), 2),
        (THREE, (32, 28, 28, 128), 2),
        (FIVE, (32, 32, 32, 32), 2),
        (((3, 3), (2, 2)), (32, 28, 28, 128), 2),
        (((3, 3), (2, 2)), (32, 56, 56, 64), 1),
        (SEVEN, (32, 224, 224, 3), 1),
        (THREE, (32, 7, 7, 512), 2),
        (THREE, (4, 8, 8, 4), 0),
        (THREE, (256, 32, 32, 8), 1),  # too narrow to shift along both axes
        (((1, 1), (1, 1)), (32, 28, 28, 64), 0),
    ],
)
def test_plan_is_the_one_that_is_fastest(layer, shape, shifted):
    geometry = Window(*layer, (1, 1), "SAME")
    assert choose_plan(geometry, shape, 4, CHUNK).shifted == shifted


def test_chunks_keep_within_the_budget_and_are_even():
    geometry = Window((3, 3), (1, 1), (1, 1), "SAME")
    plan = choose_plan(geometry, (32, 56, 56, 64), 4, CHUNK)
    # Three images at a time, in three copies: 7.2 MB.
    assert plan == Plan(shifted=2, cases=3)
    assert choose_plan(geometry, (32, 56, 56, 64), 8, CHUNK).cases == 1
    assert choose_plan(geometry, (32, 56, 56, 64), 4, None).cases == 32
    assert choose_plan(geometry, (30, 7, 7, 64), 4, CHUNK).cases == 30


def test_products_keep_float32_under_autocast(torch, rng):
    x = torch.from_numpy(rng.normal(size=(4, 20, 20, 32))).float()
    geometry = Window((3, 3), (1, 1), (1, 1), "SAME")
    backend = backend_of(x)
    assert choose_plan(geometry, x.shape, 4, CHUNK).shifted > 0
    outside = patch_second_moment(backend, [x], geometry)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = patch_second_moment(backend, [x], geometry)
    assert torch.equal(inside, outside)
