"""Flax's `ConvTranspose` with a kernel shorter than its stride.

With "VALID" it has ``n s`` outputs of ``n`` inputs, and not the ``(n - 1) s + k`` of
other libraries: the ``s - k`` after the last tap are the bias alone, as those between.
"""

import jax_models
import numpy as np
import pytest
from jax_truth import dense_fisher, relative
from test_jax_statistics import fisher
from test_jax_transposed import SOFTMAX, head

import kfac_core as kc

pytest.importorskip("jax")
pytestmark = pytest.mark.filterwarnings("default")

LAYERS = {
    "valid": ((2,), (3,), "VALID"),
    "same": ((2,), (3,), "SAME"),
    "one tap": ((1,), (3,), "VALID"),
    "circular": ((2,), (4,), "CIRCULAR"),
    "uneven": ((1, 2), (2, 3), "VALID"),
}
"""Kernel, strides, and padding by name."""


def layer_of(name, turned, has_bias=True):
    linen = pytest.importorskip("flax.linen")
    kernel, strides, padding = LAYERS[name]
    return linen.ConvTranspose(
        5,
        kernel,
        strides,
        padding,
        use_bias=has_bias,
        param_dtype="float64",
        transpose_kernel=turned,
    )


def params_of(jax, layer, x):
    kinds = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda own: jax_models.numbers(*own.shape), kinds)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_the_block_has_the_sides_that_jax_has(jax, name, turned):
    """Each side of the Kronecker product is that of `jax.vjp`, one input at a time."""
    layer, (kernel, strides, _) = layer_of(name, turned), LAYERS[name]
    sizes = (3, 2)[: len(kernel)]
    x = jax_models.numbers(4, *sizes, 3)
    params = params_of(jax, layer, x)
    outputs = layer.apply(params, x)
    assert outputs.shape[1:-1] == tuple(
        n * s for n, s in zip(sizes, strides, strict=True)
    )
    g = jax_models.numbers(*outputs.shape)
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry(
            (*kernel, *((5, 3) if turned else (3, 5))),
            padding="VALID",
            strides=strides,
            layout="HWOI" if turned else "HWIO",
        ),
        output_padding=tuple(s - k for s, k in zip(strides, kernel, strict=True)),
        has_bias=True,
        mirrored=not turned,
    )
    found = block.full_fisher_block(block.update_covs(block.init(x), x, g, 0.0))
    # A single one among the inputs, of the first channel: the gradient for the kernel
    # has the gradients that this location meets.
    rows = []
    for place in np.ndindex(*sizes):
        one = jax.numpy.zeros((1, *sizes, 3)).at[(0, *place, 0)].set(1.0)
        for own in g:
            _, back = jax.vjp(lambda p, one=one: layer.apply(p, one), params)
            kernel_grad = back(own[None])[0]["params"]["kernel"]
            met = kernel_grad[..., 0] if turned else kernel_grad[..., 0, :]
            rows.append(np.asarray(met).reshape(-1, 5))
    q = np.stack(rows).reshape(len(rows), -1)
    inputs = np.asarray(x).reshape(-1, 3)
    taps = int(np.prod(kernel))
    # In the order of the kernel's axes.
    a, s = inputs.T @ inputs / len(inputs), q.T @ q / len(q)
    s = s.reshape(taps, 5, taps, 5)
    axes = "ij,kalb->kailbj" if turned else "ij,kalb->kialjb"
    weights = np.einsum(axes, a, s).reshape(taps * 15, -1) * np.prod(sizes)
    assert relative(found[:-5, :-5], weights) < 1e-12
    of_bias = np.asarray(g.sum(tuple(range(1, g.ndim - 1))))
    assert relative(found[-5:, -5:], of_bias.T @ of_bias / 4) < 1e-12


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_of_one_location_a_captured_layer_has_the_dense_fisher(jax, name, turned):
    from kfac_adapters.jax import capture

    layer = layer_of(name, turned, has_bias=False)
    x = jax_models.numbers(1, *(1,) * len(LAYERS[name][0]), 3)
    params = params_of(jax, layer, x)
    captured = capture(
        lambda p, x: head(jax, layer.apply(p, x)), params, x, loss=SOFTMAX
    )
    (found,) = captured.collection.layers
    (block,) = fisher(jax, captured, params, (x,)).values()
    truth = jax.jit(lambda p: dense_fisher(jax, captured, p, (x,), found))(params)
    assert relative(block, truth) < 1e-10
