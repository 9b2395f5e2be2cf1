"""All K-FAC work of a network's layers: statistics, inverses, products.

The layers are those of ResNet-50 (He et al., 2016, table 1) at half of its widths, for
4 images of 112 pixels, without the classifier; and those of the smallest GPT-2 (Radford
et al., 2019) at half of its width, for 512 tokens, without its output layer, whose
factor would be as large as the square of the vocabulary. A layer that occurs several
times is measured once and counted so often.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import kfac_core as kc
from benchmarks.cases import Case, Rivals, agree, normal
from benchmarks.libraries import Library
from benchmarks.libraries.base import Convolution
from benchmarks.measuring import Call
from benchmarks.peers import kfac_pytorch_style as style
from benchmarks.work.embedding import ids_of

GROUP = "Networks"
RESNET, GPT = "ResNet-50", "GPT-2 small"
DECAY, DAMPING = 0.95, 0.1


class Conv(NamedTuple):
    """A convolution of the network: kernel, stride, channels in and out, pixels."""

    kernel: int
    stride: int
    inputs: int
    outputs: int
    pixels: int
    count: int = 1


def resnet() -> list[Conv]:
    """Return the distinct convolutions of ResNet-50 in full width, for 112 pixels."""
    counts: dict[Conv, int] = {}
    for conv in _stages():
        once = conv._replace(count=1)
        counts[once] = counts.get(once, 0) + conv.count
    return [conv._replace(count=count) for conv, count in counts.items()]


def _stages() -> Iterator[Conv]:
    yield Conv(7, 2, 3, 64, 112)
    channels, pixels = 64, 28
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        stride = 1 if width == 64 else 2
        # The first block of a stage halves the image in its middle, and its shortcut.
        yield Conv(1, 1, channels, width, pixels)
        if stride == 1:
            yield Conv(3, 1, width, width, pixels, blocks)
        else:
            yield Conv(3, 2, width, width, pixels)
            yield Conv(3, 1, width, width, math.ceil(pixels / 2), blocks - 1)
        yield Conv(1, stride, channels, 4 * width, pixels)
        channels, pixels = 4 * width, math.ceil(pixels / stride)
        yield Conv(1, 1, width, channels, pixels, blocks)
        yield Conv(1, 1, channels, width, pixels, blocks - 1)


def gpt() -> Iterator[tuple[int, int, int]]:
    """Return the widths of the linear layers of GPT-2, and how often each occurs.

    Yields:
        Inputs, outputs, count.
    """
    for inputs, outputs in ((768, 2304), (768, 768), (768, 3072), (3072, 768)):
        yield inputs, outputs, 12


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return every distinct layer of both networks.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases, each a part of its network.
    """
    scale, batch = (32, 1) if quick else (2, 4)
    for conv in resnet():
        inputs = conv.inputs if conv.inputs == 3 else conv.inputs // scale
        pixels = math.ceil(conv.pixels / 7) if quick else conv.pixels
        shape = (batch, pixels, pixels, inputs)
        layer = Convolution(conv.kernel, conv.stride, shape)
        outputs = conv.outputs // scale
        name = f"{conv.kernel}×{conv.kernel}/{conv.stride}, {inputs} to {outputs}"
        name += f", {pixels}×{pixels}"
        make = partial(_conv, library, layer, outputs)
        yield Case(GROUP, name, make, conv.count, RESNET)
    tokens, vocabulary = (16, 100) if quick else (512, 50_257)
    yield from transformer_cases(library, tokens, scale)
    name = f"embedding, {vocabulary:,} to {768 // scale}"
    make = partial(_embedding, library, tokens, vocabulary, 768 // scale)
    yield Case(GROUP, name, make, 1, GPT)


def transformer_cases(library: Library, tokens: int, scale: int) -> Iterator[Case]:
    """Return every distinct linear layer of GPT-2 small, as a part of it.

    Args:
        library: The library.
        tokens: Number of tokens of a batch.
        scale: What widths are divided by.

    Yields:
        The cases.
    """
    for inputs, outputs, count in gpt():
        inputs, outputs = inputs // scale, outputs // scale
        name = f"linear, {inputs} to {outputs}"
        make = partial(_linear, library, tokens, inputs, outputs)
        yield Case(GROUP, name, make, count, GPT)


def _ours(library: Library, block: Any, x: Any, g: Any, v: Any) -> Any:
    def step(state: Any, x: Any, g: Any, v: Any) -> Any:
        state = block.update_covs(state, x, g, DECAY)
        state = block.update_inverses(state, DAMPING)
        return state, block.multiply_inverse(state, v)

    like = v[0] if isinstance(v, tuple) else v
    return library.call(step, block.init(like=like), x, g, v)


def _averaged(old: Any, new: Any) -> Any:
    return DECAY * old + (1 - DECAY) * new


def _square(library: Library, size: int) -> Any:
    return library.array(np.zeros((size, size), np.float32))


def _conv(library: Library, layer: Convolution, outputs: int) -> Rivals:
    kernel, inputs = (layer.kernel,) * 2, layer.shape[-1]
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry(
            (*kernel, inputs, outputs),
            padding=layer.padding,
            strides=(layer.stride,) * 2,
            data_format=library.data_format,
        )
    )
    x = library.image(normal(*layer.shape))
    g = library.image(normal(layer.shape[0], *layer.outputs, outputs))
    v = library.array(normal(*kernel, inputs, outputs))
    xp = kc.backend_of(x).xp

    def peers(invert: Any, a: Any, b: Any, x: Any, g: Any, v: Any) -> Any:
        a = _averaged(a, style.second_moment(xp, library.patches(x, layer)))
        b = _averaged(b, style.second_moment(xp, library.rows(g)))
        return a, b, _preconditioned(invert, xp, a, b, v.reshape(-1, outputs))

    sizes = (layer.kernel**2 * inputs, outputs)
    old = [_square(library, size) for size in sizes]
    others = _by_inverse(library, f"{library.patches_name}, products", peers)
    others = {name: library.call(way, *old, x, g, v) for name, way in others.items()}
    return _rivals(_ours(library, block, x, g, v), others)


def _by_inverse(library: Library, name: str, peers: Any) -> dict[str, Any]:
    """Return the work with each kind of inverse, by name: the kind comes last."""
    (cholesky, *_) = library.cholesky_inverses.values()
    return {
        f"{name}, inv": partial(peers, library.inverse),
        f"{name}, Cholesky": partial(peers, cholesky),
    }


def _rivals(ours: Call, others: dict[str, Call]) -> Rivals:
    """Return the calls, those of others compared with each other."""
    one, other = (call()[-1] for call in others.values())
    agree(" and ".join(others), one, other)
    return Rivals(ours, {}, others)


def _preconditioned(invert: Any, xp: Any, a: Any, b: Any, v: Any) -> Any:
    a, b = (invert(style.damped(xp, m, DAMPING**0.5)) for m in (a, b))
    return a @ v @ b


def _linear(library: Library, tokens: int, inputs: int, outputs: int) -> Rivals:
    block = kc.blocks.FullyConnectedKFACBasicFB(inputs, outputs, has_bias=True)
    x, g = library.array(normal(tokens, inputs)), library.array(normal(tokens, outputs))
    xp = kc.backend_of(x).xp
    v = (library.array(normal(inputs, outputs)), library.array(normal(outputs)))

    def peers(invert: Any, a: Any, b: Any, x: Any, g: Any, w: Any, bias: Any) -> Any:
        a = _averaged(a, style.second_moment(xp, x, True))
        b = _averaged(b, style.second_moment(xp, g))
        v = xp.concat([w, bias[None, :]], axis=0)
        return a, b, _preconditioned(invert, xp, a, b, v)

    old = [_square(library, size) for size in (inputs + 1, outputs)]
    others = _by_inverse(library, "products", peers)
    others = {name: library.call(way, *old, x, g, *v) for name, way in others.items()}
    return _rivals(_ours(library, block, x, g, v), others)


def _embedding(library: Library, tokens: int, vocabulary: int, width: int) -> Rivals:
    block = kc.blocks.EmbeddingKFACFB(vocabulary, width)
    ids, g = ids_of(library, tokens, vocabulary), library.array(normal(tokens, width))
    xp = kc.backend_of(g).xp
    v = library.array(normal(vocabulary, width))

    def peers(invert: Any, a: Any, b: Any, ids: Any, g: Any, v: Any) -> Any:
        # Ones and zeros are their own squares.
        a = _averaged(a, library.one_hot(ids, vocabulary).mean(0))
        b = _averaged(b, style.second_moment(xp, g))
        inverse = invert(style.damped(xp, b, DAMPING**0.5))
        return a, b, (v / (a + DAMPING**0.5)[:, None]) @ inverse

    old = [library.array(np.zeros(vocabulary, np.float32)), _square(library, width)]
    others = _by_inverse(library, "one-hot", peers)
    others = {name: library.call(way, *old, ids, g, v) for name, way in others.items()}
    return _rivals(_ours(library, block, ids, g, v), others)
