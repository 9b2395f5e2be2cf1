"""Both factors of one layer, as other libraries compute them from the same arrays.

The forward and backward passes of a model are nobody's in this comparison: inputs and
gradients are there, and each library's own code that its hooks or its tracer call makes
the two factors of them. Before anything is timed they are compared with ours, up to the
scale that the other library gives them.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import kfac_core as kc
from benchmarks.cases import Case, Rivals, agree, as_numpy, normal
from benchmarks.libraries import Library
from benchmarks.libraries.base import Convolution
from benchmarks.measuring import Call
from benchmarks.peers import kfac_pytorch_style as style
from benchmarks.peers.layer import Layer, Peer
from benchmarks.work.convolution import kernel_first

GROUP = "Both factors of a layer, with bias"
PEERS = {"torch": ("curvlinops", "nngeometry"), "jax": ("kfac_jax",)}


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return a linear layer and a convolution.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases.
    """
    rows, width = (16, 8) if quick else (1024, 512)
    linear = Layer((rows, width), width)
    name = f"linear, {rows}×{width} to {width}"
    peers = PEERS.get(library.name, ())
    yield Case(GROUP, name, partial(_linear, library, linear, peers))
    # The kernel that kfac-jax compiles for the CPU is slow: it gets one image alone.
    slow = "kfac_jax" in peers
    for images, of_them in ((16, () if slow else peers), (1, peers if slow else None)):
        if of_them is None:
            continue
        shape = (images, 6, 6, 4) if quick else (images, 28, 28, 64)
        layer = Layer(shape, shape[-1], Convolution(3, 1, shape))
        name = f"conv {layer.convolution} to {shape[-1]}"
        yield Case(GROUP, name, partial(_convolution, library, layer, of_them))


def _linear(library: Library, layer: Layer, peers: Sequence[str]) -> Rivals:
    x = library.array(normal(*layer.shape))
    g = library.array(normal(layer.shape[0], layer.outputs))
    block = kc.blocks.FullyConnectedKFACBasicFB(
        layer.shape[1], layer.outputs, has_bias=True
    )
    return _rivals(library, layer, block, (x, g), peers)


def _convolution(library: Library, layer: Layer, peers: Sequence[str]) -> Rivals:
    convolution = layer.convolution
    x = library.image(normal(*layer.shape))
    outputs = (layer.shape[0], *convolution.outputs, layer.outputs)
    g = library.image(normal(*outputs))
    kernel = (convolution.kernel,) * 2
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry(
            (*kernel, layer.shape[-1], layer.outputs),
            padding=convolution.padding,
            data_format=library.data_format,
        ),
        has_bias=True,
    )
    return _rivals(library, layer, block, (x, g), peers)


def _rivals(
    library: Library,
    layer: Layer,
    block: Any,
    data: tuple[Any, Any],
    names: Sequence[str],
) -> Rivals:
    x, g = data
    state = library.once(block.update_covs, block.init(like=x), x, g, 0.0)
    ours = library.call(lambda s, x, g: block.update_covs(s, x, g, 0.95), state, x, g)
    factors = (
        block.input_factor.get_cov(state.input_factor),
        block.output_factor.get_cov(state.output_factor),
    )
    peers = {"as kfac-pytorch": _style(library, layer, x, g)}
    for name in names:
        if find_spec(name):
            module = import_module(f"benchmarks.peers.{name}")
            peers[name.replace("_", "-")] = module.peer(layer, x, g)
    others: dict[str, Call] = {}
    for name, peer in peers.items():
        a, b = peer.factors()
        if peer.channels_first and layer.convolution:
            a = kernel_first(a, layer.convolution.kernel)
        agree(f"{name}, A", as_numpy(factors[0]) * peer.scales[0], a)
        agree(f"{name}, G", as_numpy(factors[1]) * peer.scales[1], b)
        others[name] = peer.call
    return Rivals(ours, {}, others)


def _style(library: Library, layer: Layer, x: Any, g: Any) -> Peer:
    xp = kc.backend_of(x).xp

    def update(old: Any, x: Any, g: Any) -> Any:
        if layer.convolution:
            x, g = library.patches(x, layer.convolution), library.rows(g)
        new = (style.second_moment(xp, x, True), style.second_moment(xp, g))
        return tuple(0.95 * a + 0.05 * b for a, b in zip(old, new, strict=True))

    size = layer.inputs + 1
    zeros = (xp.zeros((size, size), dtype=x.dtype),)
    zeros += (xp.zeros((layer.outputs,) * 2, dtype=x.dtype),)
    call = library.call(update, zeros, x, g)
    return Peer(call, call, (0.05, 0.05), channels_first=True)
