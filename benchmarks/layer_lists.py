"""Layers of known networks, as the sizes of the two factors of each.

They are ResNet-50 (He et al., 2016, table 1) with its classifier; the smallest GPT-2
(Radford et al., 2019) without its embeddings, whose factors over the vocabulary are
diagonal; and the same with eight experts in place of each feed-forward layer (Shazeer
et al., 2017).
"""

from benchmarks.work.networks import gpt, resnet

Sizes = tuple[int, int]
"""Rows of the factor of inputs, with one for a bias, and of that of gradients."""


def resnet50() -> list[Sizes]:
    """Return the 53 convolutions and the classifier."""
    convolutions = [
        (conv.kernel**2 * conv.inputs, conv.outputs)
        for conv in resnet()
        for _ in range(conv.count)
    ]
    return [*convolutions, (2049, 1000)]


def gpt2_small() -> list[Sizes]:
    """Return the 48 linear layers, all with biases."""
    return [
        (inputs + 1, outputs) for inputs, outputs, count in gpt() for _ in range(count)
    ]


def mixture() -> list[Sizes]:
    """Return the layers of GPT-2 small with eight experts, and a gate for each."""
    attention = [(a, g) for a, g in gpt2_small() if max(a, g) < 3072]
    experts = [(769, 3072), (3073, 768)] * 8
    return [*attention, *[sizes for _ in range(12) for sizes in (*experts, (768, 8))]]


NETWORKS = {
    "ResNet-50": resnet50,
    "GPT-2 small": gpt2_small,
    "a mixture of 8 experts": mixture,
}
"""The layer lists, by the name of the network."""
