"""kfac-jax: the update of its Kronecker blocks, compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import kfac_jax
from kfac_jax._src.layers_and_loss_tags import LayerData
from kfac_jax._src.tracer import LayerVjpData

from benchmarks.peers.layer import Layer, Peer


def peer(layer: Layer, x: Any, g: Any) -> Peer:
    """Return its two factors of a layer's inputs and gradients.

    Args:
        layer: The layer.
        x: Its inputs.
        g: The gradients of the summed loss for its outputs.

    Returns:
        The peer.
    """
    params, block = _block(layer, x)
    start = block.init(
        jax.random.PRNGKey(0),
        exact_powers_to_cache=set(),
        approx_powers_to_cache={-1},
        cache_eigenvalues=False,
    )

    @jax.jit
    def update(state: Any, x: Any, g: Any) -> Any:
        data = LayerVjpData(
            primals=LayerData(inputs=(x,), outputs=(g,), params=params),
            tangents=LayerData(inputs=(x,), outputs=(g,), params=params),
        )
        new = block.update_curvature_matrix_estimate(
            state,
            data,
            ema_old=0.95,
            ema_new=1.0,
            identity_weight=0.0,
            batch_size=len(x),
        )
        return new.factors

    def factors() -> tuple[Any, Any]:
        a, b = update(start, x, g)
        return a.value, b.value

    return Peer(
        lambda: jax.block_until_ready(update(start, x, g)),
        factors,
        (1.0, 1.0),
        channels_first=False,
    )


def _block(layer: Layer, x: Any) -> tuple[Any, Any]:
    """Return parameters and the block that the library makes of a traced layer."""
    bias = jnp.ones(layer.outputs, x.dtype)
    if layer.convolution is None:
        weights = jnp.ones((layer.inputs, layer.outputs), x.dtype)
        make = kfac_jax.DenseTwoKroneckerFactored

        def tagged(x: Any, w: Any, b: Any) -> Any:
            return kfac_jax.register_dense(x @ w + b, x, w, b)
    else:
        kernel, stride = layer.convolution.kernel, layer.convolution.stride
        weights = jnp.ones((kernel, kernel, layer.shape[-1], layer.outputs), x.dtype)
        make = kfac_jax.Conv2DTwoKroneckerFactored
        options = {
            "window_strides": (stride, stride),
            "padding": layer.convolution.padding,
            "dimension_numbers": jax.lax.conv_dimension_numbers(
                x.shape, weights.shape, ("NHWC", "HWIO", "NHWC")
            ),
        }

        def tagged(x: Any, w: Any, b: Any) -> Any:
            y = jax.lax.conv_general_dilated(x, w, **options) + b
            return kfac_jax.register_conv2d(y, x, w, b, **options)

    traced = jax.make_jaxpr(tagged)(x, weights, bias)
    (equation,) = (e for e in traced.eqns if e.primitive.name == "layer_tag")
    return (weights, bias), make(equation)
