"""Convolutions that a case uses several times: of one size, of several, in groups.

The truth is the block of the core, given what each use sees and the gradients of all
classes for zeros that are added to its outputs.
"""

import jax_models
import numpy as np
import pytest
from jax_truth import relative
from test_jax_statistics import fisher

import kfac_core as kc
from kfac_core.typing import Uses

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
CASES, CHANNELS = 3, 4


def convolved(jax, p, x, groups):
    y = jax.lax.conv_general_dilated(
        x,
        p["w"],
        (1,) * (x.ndim - 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC")
        if x.ndim == 4
        else ("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )
    return y + p["b"]


def model(jax, p, images, groups, added=None):
    """Return logits of all images of a case, and the outputs of the convolution."""
    heads, outputs = 0.0, []
    for i, x in enumerate(images):
        y = convolved(jax, p, x, groups)
        y = y if added is None else y + added[i]
        outputs.append(y)
        heads = heads + jax.numpy.tanh(y).mean(tuple(range(1, y.ndim - 1)))
    return heads @ jax_models.numbers(CHANNELS, 3), outputs


SIZES = {
    "sizes": ((3, 3), (2, 4)),
    "one size": ((3, 3), (3, 3)),
    "one axis": ((4,), (4,)),
    "one axis, sizes": ((4,), (6,)),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", SIZES)
def test_all_locations_of_all_uses_count(jax, name, groups):
    from kfac_adapters.jax import capture

    jnp, sizes = jax.numpy, SIZES[name]
    kernel = (2,) * len(sizes[0])
    w = jax_models.numbers(*kernel, CHANNELS // groups, CHANNELS)
    params = {"w": w, "b": jax_models.numbers(CHANNELS, seed=1)}
    images = [
        jax_models.numbers(CASES, *size, CHANNELS, seed=i)
        for i, size in enumerate(sizes)
    ]

    def function(p, *images):
        return model(jax, p, images, groups)[0]

    captured = capture(function, params, *images, loss=SOFTMAX)
    (layer,) = captured.collection.layers
    assert layer.params == ("['w']", "['b']")
    (found,) = fisher(jax, captured, params, images).values()

    @jax.jit
    def gradients(params, images):
        logits, outputs = model(jax, params, images, groups)
        roots = jnp.sqrt(jax.nn.softmax(logits))
        zeros = [jnp.zeros_like(y) for y in outputs]

        def loss(added, y):
            logs = jax.nn.log_softmax(model(jax, params, images, groups, added)[0])
            return (roots[:, y] * logs[:, y]).sum()

        return [jax.grad(loss)(zeros, y) for y in range(3)]

    shape = (*kernel, CHANNELS // groups, CHANNELS)
    make = kc.blocks.ConvKFCBasicMultiIndepFB
    if groups > 1:
        make = kc.blocks.GroupedConvKFCBasicMultiIndepFB
    geometry = kc.ConvolutionGeometry(shape, padding="VALID", num_groups=groups)
    block = make(geometry, has_bias=True)
    x = Uses(tuple(map(np.asarray, images)))
    sources = tuple(
        (Uses(tuple(map(np.asarray, own))),) for own in gradients(params, images)
    )
    state = block.update_covs(block.init(np.zeros(1)), x, sources, ema_decay=0.0)
    assert relative(found, block.full_fisher_block(state)) < 1e-10


def test_uses_of_unlike_settings_are_no_layer(jax):
    from kfac_adapters.jax import capture

    params = {"w": jax_models.numbers(2, 2, CHANNELS, CHANNELS)}
    x = jax_models.numbers(CASES, 4, 4, CHANNELS)

    def function(p, x):
        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        own = jax.lax.conv_general_dilated
        y, z = (own(x, p["w"], (s, s), "VALID", **options) for s in (1, 2))
        return y.mean((1, 2)) + z.mean((1, 2))

    with pytest.raises(kc.errors.RegistrationError, match="unlike settings"):
        capture(function, params, x, loss=SOFTMAX)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 3)])
def test_transposed_convolutions_of_several_uses_are_layers(jax, sizes):
    from kfac_adapters.jax import capture

    jnp = jax.numpy
    params = {"w": jax_models.numbers(3, 2, CHANNELS)}
    images = [
        jax_models.numbers(CASES, size, 2, seed=i) for i, size in enumerate(sizes)
    ]

    def outputs(p, images):
        return [
            jax.lax.conv_transpose(
                x, p["w"], (2,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
            )
            for x in images
        ]

    def logits(found):
        heads = sum(jnp.tanh(y).mean(1) for y in found)
        return heads @ jax_models.numbers(CHANNELS, 3)

    def function(p, *images):
        return logits(outputs(p, images))

    captured = capture(function, params, *images, loss=SOFTMAX)
    (layer,) = captured.collection.layers
    (found,) = fisher(jax, captured, params, images).values()
    ys = outputs(params, images)
    roots = jnp.sqrt(jax.nn.softmax(logits(ys)))

    @jax.jit
    def gradient(ys, y):
        return jax.grad(
            lambda ys: (roots[:, y] * jax.nn.log_softmax(logits(ys))[:, y]).sum()
        )(ys)

    sources = tuple((Uses(tuple(map(np.asarray, gradient(ys, y)))),) for y in range(3))
    x = Uses(tuple(map(np.asarray, images)))
    block = layer.block
    state = block.update_covs(block.init(np.zeros(1)), x, sources, ema_decay=0.0)
    assert relative(found, block.full_fisher_block(state)) < 1e-10
    assert type(block) is kc.blocks.TransposedConvKFCBasicMultiIndepFB
