"""Patches are what a kernel sees: their product with a filter is the convolution."""

import brute_force
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfac_core import backend_of
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.second_moment import (
    extract_patches,
    filter_gradients,
    patch_second_moment,
)
from kfac_core.statistics.patches.window import Window

# spatial sizes, kernel, strides, dilation, padding
CONVOLUTIONS = {
    "1d-same": ((7,), (3,), (2,), (1,), "SAME"),
    "1d-valid-dilated": ((7,), (3,), (1,), (2,), "VALID"),
    "1d-causal": ((5,), (3,), (1,), (1,), ((2, 0),)),
    "2d-valid": ((4, 5), (2, 3), (1, 1), (1, 1), "VALID"),
    "2d-same-stride": ((5, 4), (3, 2), (2, 3), (1, 1), "SAME"),
    "2d-same-even": ((4, 4), (2, 2), (1, 1), (1, 1), "SAME"),
    "2d-same-stride-past-kernel": ((5, 5), (1, 2), (3, 3), (1, 1), "SAME"),
    "2d-dilated": ((6, 5), (2, 2), (2, 1), (3, 2), "VALID"),
    "2d-same-dilated": ((3, 3), (3, 3), (1, 1), (3, 3), "SAME"),
    "2d-width": ((4, 3), (3, 3), (2, 2), (1, 1), 1),
    "2d-widths": ((4, 3), (3, 2), (1, 2), (1, 1), (1, 2)),
    "2d-pairs": ((4, 3), (2, 2), (2, 1), (1, 2), ((0, 1), (2, 1))),
    "2d-pointwise": ((2, 3), (1, 1), (1, 1), (1, 1), "SAME"),
    "2d-pointwise-stride": ((3, 3), (1, 1), (2, 1), (1, 1), "VALID"),
    "2d-whole-image": ((3, 2), (3, 2), (1, 1), (1, 1), "VALID"),
    "3d-same": ((3, 3, 3), (2, 2, 2), (1, 2, 1), (1, 1, 1), "SAME"),
    "3d-valid": ((3, 4, 2), (2, 2, 1), (1, 2, 1), (2, 1, 1), "VALID"),
}
CHANNELS, OUT = 2, 3
FORMATS = {
    1: ("NWC", "NCW"),
    2: ("NHWC", "NCHW"),
    3: ("NDHWC", "NCDHW"),
}


def channels_first(x):
    return np.moveaxis(x, -1, 1)


def geometry_of(case, data_format=None):
    _, kernel, strides, dilation, padding = CONVOLUTIONS[case]
    geometry = ConvolutionGeometry(
        (*kernel, CHANNELS, 1),
        padding=padding,
        strides=strides or 1,
        dilations=dilation or 1,
        data_format=data_format,
    )
    return geometry.window


@pytest.fixture(params=CONVOLUTIONS)
def case(request):
    return request.param


@pytest.fixture
def images(case, rng):
    spatial, *_ = CONVOLUTIONS[case]
    return rng.normal(size=(2, *spatial, CHANNELS))


def test_patches_are_what_the_kernel_sees(library, case, images):
    _, kernel, strides, dilation, padding = CONVOLUTIONS[case]
    x = library.asarray(images)
    taken = extract_patches(backend_of(x), x, geometry_of(case))
    np.testing.assert_array_equal(
        library.to_numpy(taken),
        brute_force.patches(images, kernel, strides, dilation, padding),
    )


def test_patches_times_filter_is_the_convolution(library, case, images, rng):
    # t41 of the original's suite.
    _, kernel, strides, dilation, padding = CONVOLUTIONS[case]
    weights = rng.normal(size=(*kernel, CHANNELS, OUT))
    x = library.asarray(images)
    geometry = geometry_of(case)
    taken = library.to_numpy(extract_patches(backend_of(x), x, geometry))
    rows = taken.reshape(*taken.shape[: 1 + len(kernel)], -1)
    expected = brute_force.convolution(images, weights, strides, dilation, padding)
    np.testing.assert_allclose(
        rows @ weights.reshape(-1, OUT), expected, rtol=1e-12, atol=1e-13
    )
    assert geometry.num_locations(x) == np.prod(expected.shape[1:-1])


@pytest.mark.parametrize("which", [0, 1], ids=["last", "first"])
def test_data_format_says_where_the_channels_are(case, images, which):
    rank = images.ndim - 2
    geometry = geometry_of(case, FORMATS[rank][which])
    x = images if which == 0 else channels_first(images)
    np.testing.assert_array_equal(
        extract_patches(backend_of(x), x, geometry),
        extract_patches(backend_of(images), images, geometry_of(case)),
    )
    assert geometry.spatial_of(x) == images.shape[1:-1]


@pytest.mark.parametrize("has_bias", [False, True])
def test_patch_moments_are_those_of_the_patches(library, case, images, has_bias, rng):
    _, kernel, strides, dilation, padding = CONVOLUTIONS[case]
    taken = brute_force.patches(images, kernel, strides, dilation, padding)
    rank = len(kernel)
    gradients = rng.normal(size=(*taken.shape[: 1 + rank], OUT))
    x, g = library.asarray(images), library.asarray(gradients)
    backend, geometry = backend_of(x), geometry_of(case)
    np.testing.assert_allclose(
        library.to_numpy(
            patch_second_moment(backend, [x], geometry, has_bias=has_bias)
        ),
        brute_force.patch_second_moment(taken, rank, has_bias),
        rtol=1e-12,
        atol=1e-14,
    )
    np.testing.assert_allclose(
        library.to_numpy(filter_gradients(backend, x, g, geometry, has_bias=has_bias)),
        brute_force.case_gradients(taken, gradients, rank, has_bias),
        rtol=1e-12,
        atol=1e-13,
    )


def test_pytorch_computes_the_same_convolution(torch, case, images, rng):
    _, kernel, strides, dilation, padding = CONVOLUTIONS[case]
    rank = len(kernel)
    pairs = brute_force.padding_pairs(
        padding, images.shape[1:-1], kernel, strides, dilation
    )
    weights = rng.normal(size=(*kernel, CHANNELS, OUT))
    x = torch.from_numpy(channels_first(images).copy())
    flat = [width for pair in reversed(pairs) for width in pair]
    convolve = getattr(torch.nn.functional, f"conv{rank}d")
    filters = torch.from_numpy(np.moveaxis(weights, (-1, -2), (0, 1)).copy())
    expected = convolve(
        torch.nn.functional.pad(x, flat), filters, stride=strides, dilation=dilation
    )
    taken = extract_patches(backend_of(x), x, geometry_of(case, FORMATS[rank][1]))
    rows = taken.reshape(*taken.shape[: 1 + rank], -1)
    found = rows @ torch.from_numpy(weights.reshape(-1, OUT))
    np.testing.assert_allclose(
        np.moveaxis(found.numpy(), -1, 1), expected.numpy(), rtol=1e-11, atol=1e-12
    )


def test_jax_computes_the_same_convolution(jax, case, images, rng):
    _, kernel, strides, dilation, padding = CONVOLUTIONS[case]
    rank = len(kernel)
    pairs = padding
    if not isinstance(padding, str):
        spatial = images.shape[1:-1]
        pairs = brute_force.padding_pairs(padding, spatial, kernel, strides, dilation)
    weights = rng.normal(size=(*kernel, CHANNELS, OUT))
    axes = {1: "W", 2: "HW", 3: "DHW"}[rank]
    x = jax.numpy.asarray(images)
    expected = jax.lax.conv_general_dilated(
        x,
        jax.numpy.asarray(weights),
        strides,
        pairs,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )
    taken = extract_patches(backend_of(x), x, geometry_of(case))
    rows = taken.reshape(*taken.shape[: 1 + rank], -1)
    np.testing.assert_allclose(
        rows @ weights.reshape(-1, OUT), expected, rtol=1e-11, atol=1e-12
    )


@given(
    size=st.integers(1, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
)
def test_same_padding_has_a_location_for_each_stride(size, kernel, stride, dilation):
    geometry = Window((kernel,), (stride,), (dilation,), "SAME")
    ((before, after),) = geometry.pads((size,))
    assert geometry.output_spatial((size,)) == (-(-size // stride),)
    assert before <= after <= before + 1
    ones = np.ones((1, size, 1))
    np.testing.assert_array_equal(
        extract_patches(backend_of(ones), ones, geometry),
        brute_force.patches(ones, (kernel,), (stride,), (dilation,), "SAME"),
    )


def test_first_patch_has_the_channels_fastest():
    # 2.7 of the original's behaviour: kernel height, kernel width, channel.
    image = np.arange(1.0, 19.0).reshape(1, 3, 3, 2)
    geometry = Window((2, 2), (1, 1), (1, 1), "VALID")
    first = extract_patches(backend_of(image), image, geometry)[0, 0, 0]
    assert first.ravel().tolist() == [1, 2, 3, 4, 7, 8, 9, 10]
