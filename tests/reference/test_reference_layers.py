import numpy as np
import pytest
from reference_cases import (
    LAYERS,
    assert_close,
    mapped,
    numerical_gradient,
)

from kfac_core.errors import ArgumentError, DTypeError, ShapeError
from kfac_core.reference import (
    Conv2D,
    ConvTranspose,
    Dense,
    Embedding,
    MeanPool2D,
    Tanh,
)

BATCH = 3


@pytest.fixture(params=LAYERS)
def case(request):
    return LAYERS[request.param]


def drawn(case, rng):
    """Return parameters, inputs off the kink of a ReLU, and weights of the outputs."""
    params = tuple(rng.standard_normal(shape) for shape in case.layer.param_shapes)
    x = rng.standard_normal((BATCH, *case.shape))
    x += np.sign(x) * 0.1
    y, _ = case.layer.forward(params, x)
    return params, x, rng.standard_normal(y.shape)


def replaced(tensors, index, tensor):
    return (*tensors[:index], tensor, *tensors[index + 1 :])


def test_gradients_are_finite_differences(case, rng):
    params, x, g = drawn(case, rng)
    layer = case.layer
    _, cache = layer.forward(params, x)

    by_input = numerical_gradient(lambda z: np.sum(g * layer.forward(params, z)[0]), x)
    assert_close(layer.backward(params, cache, g), by_input, 1e-9)

    for index, gradient in enumerate(layer.param_gradients(cache, g)):
        by_param = numerical_gradient(
            lambda p, i=index: np.sum(g * layer.forward(replaced(params, i, p), x)[0]),
            params[index],
        )
        assert_close(gradient, by_param, 1e-9)


def test_gradients_are_those_of_jax(case, rng, jax):
    params, x, g = drawn(case, rng)
    layer = case.layer
    _, cache = layer.forward(params, x)

    def of_case(p, z, h):
        return (h[None] * layer.forward(p, z[None])[0]).sum()

    by_case = jax.jit(jax.vmap(jax.grad(of_case, argnums=(0, 1)), (None, 0, 0)))
    by_params, by_input = by_case(params, x, g)
    assert_close(layer.backward(params, cache, g), by_input)
    for mine, theirs in zip(layer.case_gradients(cache, g), by_params, strict=True):
        assert_close(mine, theirs)


def test_push_forward_is_that_of_jax(case, rng, jax):
    params, x, _ = drawn(case, rng)
    d_params, dx, _ = drawn(case, rng)
    layer = case.layer
    _, cache = layer.forward(params, x)
    _, expected = jax.jit(
        lambda *point: jax.jvp(
            lambda p, z: layer.forward(p, z)[0], point, (d_params, dx)
        )
    )(params, x)
    assert_close(layer.push_forward(params, cache, d_params, dx), expected)
    without = layer.push_forward(params, cache, d_params, None)
    if not params:
        assert without is None
    else:
        assert_close(without, layer.push_forward(params, cache, d_params, 0 * dx))


def torch_forward(nn, layer, params, x):
    """The layer in PyTorch's own words; strides and padding as its manual has them."""
    name = type(layer).__name__
    if name == "Dense":
        weights, *bias = params
        return nn.linear(x, weights.T, *bias)
    if name == "Bilinear":
        weights, *bias = params
        pair = layer.pair(x)
        return nn.bilinear(*pair, weights.permute(2, 0, 1).contiguous(), *bias)
    if name == "ConvTranspose":
        return torch_transposed(nn, layer, params, x)
    if name == "Bias":
        return x + params[0]
    if name == "Conv2D":
        weights, *bias = params
        top_left, bottom_right = zip(
            *layer.geometry.window.pads(x.shape[1:3]), strict=True
        )
        image = nn.pad(
            x.permute(0, 3, 1, 2),
            (top_left[1], bottom_right[1], top_left[0], bottom_right[0]),
        )
        kernel = weights.permute(3, 2, 0, 1).contiguous()
        return nn.conv2d(image, kernel, *bias, stride=layer.strides).permute(0, 2, 3, 1)
    if name == "MeanPool2D":
        image = x.permute(0, 3, 1, 2)
        if layer.size is None:
            return image.mean((2, 3))
        return nn.avg_pool2d(image, layer.size).permute(0, 2, 3, 1)
    return {"Tanh": x.tanh, "ReLU": x.relu, "Flatten": lambda: x.flatten(1)}[name]()


def torch_transposed(nn, layer, params, x):
    weights, *bias = params
    if layer.mirrored:
        weights = weights.flip(tuple(range(x.ndim - 2)))
    call = (nn.conv_transpose1d, nn.conv_transpose2d, nn.conv_transpose3d)[x.ndim - 3]
    adjoint, more = layer.window.adjoint, layer.window.output_padding
    pads = adjoint.pads(x.shape[1:-1])
    even = all(before == after for before, after in pads)
    y = call(
        x.movedim(-1, 1),
        weights.movedim((-2, -1), (0, 1)).contiguous(),
        *bias,
        stride=adjoint.strides,
        dilation=adjoint.dilations,
        groups=layer.num_groups,
        padding=tuple(before for before, _ in pads) if even else 0,
        output_padding=more,
    )
    if not even:  # cut by hand: PyTorch's padding is the same at either end
        for axis, (before, after) in enumerate(pads, start=2):
            y = y.narrow(axis, before, y.shape[axis] - before - after)
    return y.movedim(1, -1)


def test_layers_are_those_of_pytorch(case, rng, torch):
    params, x, g = mapped(torch.from_numpy, drawn(case, rng))
    layer = case.layer
    for tensor in (*params, x):
        tensor.requires_grad_()
    expected = torch_forward(torch.nn.functional, layer, params, x)
    expected.backward(g)
    y, cache = layer.forward(params, x)
    assert_close(y.detach(), expected.detach())
    assert_close(layer.backward(params, cache, g).detach(), x.grad)
    for mine, p in zip(layer.param_gradients(cache, g), params, strict=True):
        assert_close(mine.detach(), p.grad)


def test_same_padding_is_that_of_tensorflow(rng, jax):
    # JAX has TensorFlow's rule by name; PyTorch has none for strides.
    layer = Conv2D((3, 4, 2, 3), strides=(2, 3), has_bias=False)
    drawn = (
        (rng.standard_normal(layer.filter_shape),),
        rng.standard_normal((2, 7, 8, 2)),
    )
    params, x = mapped(jax.numpy.asarray, drawn)
    expected = jax.lax.conv_general_dilated(
        x, *params, (2, 3), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert_close(layer.forward(params, x)[0], expected)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolutions_are_those_of_jax(stride, padding, mirrored, rng, jax):
    layer = ConvTranspose(
        (4, 2, 3),
        stride,
        padding,
        None if padding == "SAME" else 0,
        has_bias=False,
        mirrored=mirrored,
    )
    weights, x = rng.standard_normal((4, 2, 3)), rng.standard_normal((2, 5, 2))
    expected = jax.lax.conv_transpose(
        x,
        weights if mirrored else weights.transpose(0, 2, 1),
        (stride,),
        padding,
        dimension_numbers=("NWC", "WIO", "NWC"),
        transpose_kernel=not mirrored,
    )
    assert_close(layer.forward((weights,), x)[0], expected)


def test_case_gradients_sum_to_the_gradient(case, rng):
    params, x, g = drawn(case, rng)
    _, cache = case.layer.forward(params, x)
    by_case = case.layer.case_gradients(cache, g)
    for each, total in zip(by_case, case.layer.param_gradients(cache, g), strict=True):
        assert each.shape == (BATCH, *total.shape)
        assert_close(each.sum(axis=0), total)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3)])
def test_an_embedding_sums_the_rows_of_its_ids(shape, rng):
    layer = Embedding(5, 2)
    weights = rng.standard_normal((5, 2))
    ids = rng.integers(5, size=shape)
    y, cache = layer.forward((weights,), ids)
    rows = ids.reshape(4, -1)
    assert_close(y, weights[rows].sum(axis=1))

    g = rng.standard_normal(y.shape)
    expected = np.zeros((4, 5, 2))
    for n, row in enumerate(rows):
        for i in row:
            expected[n, i] += g[n]
    assert_close(layer.case_gradients(cache, g)[0], expected)
    assert_close(layer.param_gradients(cache, g)[0], expected.sum(axis=0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initial_weights_keep_the_scale_of_what_goes_through(dtype):
    layer = Dense(400, 300)
    weights, bias = layer.init(np.random.default_rng(0), like=np.ones(1, dtype))
    assert weights.dtype == bias.dtype == dtype
    # The standard error of a variance from n normals is sqrt(2 / n): below 0.005.
    assert abs(weights.var() * 400 - 1) < 0.02
    assert not bias.any()
    assert Tanh().init(np.random.default_rng(0), like=weights) == ()


ERRORS = {
    "features": (Dense(3, 2), (np.ones((3, 2)), np.ones(2)), np.ones((5, 4))),
    "no-bias": (Dense(3, 2), (np.ones((3, 2)),), np.ones((5, 3))),
    "weights": (Dense(3, 2), (np.ones((2, 3)), np.ones(2)), np.ones((5, 3))),
    "channels": (Conv2D((1, 1, 2, 1)), (np.ones((1, 1, 2, 1)), np.ones(1)), None),
    "windows": (MeanPool2D((2, 2)), (), np.ones((1, 3, 4, 1))),
    "rank-of-ids": (Embedding(3, 2), (np.ones((3, 2)),), np.ones((1, 1, 1), int)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_shapes_are_checked(name):
    layer, params, x = ERRORS[name]
    with pytest.raises(ShapeError, match=type(layer).__name__):
        layer.forward(params, np.ones((1, 2, 2, 3)) if x is None else x)


def test_ids_are_checked():
    layer, params = Embedding(3, 2), (np.ones((3, 2)),)
    with pytest.raises(DTypeError, match="expected integers"):
        layer.forward(params, np.ones(4))
    with pytest.raises(ArgumentError, match="from -1 to 3, expected 0 to 2"):
        layer.forward(params, np.asarray([-1, 3]))
    _, cache = layer.forward(params, np.asarray([0, 1]))
    with pytest.raises(DTypeError, match="no gradient"):
        layer.backward(params, cache, np.ones((2, 2)))


def test_padding_is_given_by_name():
    with pytest.raises(ArgumentError, match="expected SAME or VALID"):
        Conv2D((3, 3, 1, 1), padding=2)
