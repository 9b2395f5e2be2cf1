"""Where the blocks of shared weights are exact: convolutions and repeated uses.

KFC, and K-FAC-expand, take the uses of a case to be uncorrelated. They are exact where
their gradients are, and where there is one use.
"""

import numpy as np

from kfac_core.fisher_blocks import (
    FullyConnectedKFACBasicFB,
    FullyConnectedMultiIndepFB,
    KFACReduceFB,
)
from kfac_core.reference import Conv2D, Dense, Flatten, MeanPool2D, Sequential, Tanh
from kfac_core.theorems import verbs
from kfac_core.theorems.drawn import (
    HIDDEN,
    NARROW,
    SOFTMAX,
    Layer,
    homogeneous,
    layer_of,
    random_params,
)
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial
from kfac_core.typing import Array

HEIGHT, WIDTH, CHANNELS = 3, 3, 2

USES = 3


def _images(trial: Trial) -> Matrix:
    shape = (trial.sizes.batch, HEIGHT, WIDTH, CHANNELS)
    return trial.rng().standard_normal(shape)


def _first(trial: Trial, network: Sequential, x: Matrix, loss: object) -> Layer:
    params = random_params(network, trial.rng())
    return layer_of(network, params, x, loss, 0)  # type: ignore[arg-type]


@theorem(
    "T7",
    condition="a convolution's outputs, each with a normal loss of its own",
    claim="K = F",
    source="Eschenhagen et al. (2023), proposition 1: the expand setting",
    twin="T8': a normal loss of their mean",
)
def a_regression_at_each_location_is_exact(trial: Trial, holds: bool) -> Measured:
    """Compare a convolution's block with its Fisher."""
    conv = Conv2D((2, 2, CHANNELS, 1))  # a source for each of its outputs
    network = Sequential((conv, Flatten() if holds else MeanPool2D()))
    layer = _first(trial, network, _images(trial), NARROW)
    size = layer.fisher.shape[0]
    return trial.judged(layer.kfac(trial), layer.fisher, terms=layer.terms, size=size)


def _pooled(trial: Trial, layer: Layer, reduces: bool) -> Measured:
    """Compare K-FAC-reduce, or K-FAC-expand, with the Fisher."""
    block = KFACReduceFB(layer.block) if reduces else layer.block
    found = trial.call(verbs.dense, block, tuple(layer.data))
    return trial.judged(found, layer.fisher, terms=layer.terms, size=len(layer.fisher))


@theorem(
    "T8",
    condition="K-FAC-reduce, normal loss of the mean over locations",
    claim="K = F",
    source="Eschenhagen et al. (2023), proposition 2: the reduce setting",
    twin="K-FAC-expand",
)
def a_regression_on_the_mean_is_exact(trial: Trial, holds: bool) -> Measured:
    """Compare the pooled block of a convolution with its Fisher."""
    network = Sequential((Conv2D((2, 2, CHANNELS, HIDDEN)), MeanPool2D()))
    layer = _first(trial, network, _images(trial), NARROW)
    return _pooled(trial, layer, holds)


def _pooled_with(block: KFACReduceFB, data: verbs.Data, pooling: Array) -> Array:
    """Return the block's matrix, its positions pooled with weights."""
    inputs, gradients = data
    state = block.update_covs(
        block.init(inputs), inputs, gradients, 0.0, position_weights=pooling
    )
    return block.full_fisher_block(state)


@theorem(
    "T8''",
    condition="K-FAC-reduce with the weights of a weighted mean over uses, normal loss",
    claim="K = F",
    source="the gradient of a case has rank one: its weighted mean of a times its g",
    twin="equal weights",
)
def a_regression_on_a_weighted_mean_is_exact(trial: Trial, holds: bool) -> Measured:
    """Pool the uses of a layer as attention does, each case with its own weights."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    x = trial.rounded(rng.standard_normal((n, USES, d)))
    pooling = rng.uniform(0.1, 1.0, (n, USES))
    pooling = trial.rounded(pooling / pooling.sum(axis=1, keepdims=True))
    # A source for each output: what reaches a use is its weight.
    sources = tuple(
        (pooling[:, :, None] * unit / np.sqrt(NARROW.var),) for unit in np.eye(o)
    )
    block = KFACReduceFB(
        FullyConnectedMultiIndepFB(d, o, has_bias=True, batch_first=True)
    )
    given = pooling if holds else np.ones_like(pooling)
    found = trial.call(_pooled_with, block, (x, sources), given)
    means = homogeneous(np.einsum("nt,nti->ni", pooling, x))
    truth = np.kron(means.T @ means / n, np.eye(o) / NARROW.var)
    return trial.judged(found, truth, terms=n * o + USES, size=len(truth))


@theorem(
    "T9",
    condition="K-FAC-reduce, one case, mean over locations after the layer, any loss",
    claim="K = F",
    source="the gradient has rank one: the sum of g times the mean of a",
    twin="K-FAC-expand",
)
def one_pooled_case_is_exact(trial: Trial, holds: bool) -> Measured:
    """Let curved layers and a softmax follow the pooled convolution."""
    conv = Conv2D((2, 2, CHANNELS, HIDDEN))
    rest = (Tanh(), Dense(HIDDEN, 3))
    network = Sequential((conv, MeanPool2D(), *rest))
    layer = _first(trial, network, _images(trial)[:1], SOFTMAX)
    return _pooled(trial, layer, holds)


@theorem(
    "T10",
    condition="mean over T locations, normal loss",
    claim="T K = F in the block of the bias, whose gradients agree",
    source="Eschenhagen et al. (2023): the sum over uses is the bias's gradient",
    twin="K itself",
)
def the_bias_lacks_correlations(trial: Trial, holds: bool) -> Measured:
    """Compare the last rows and columns of a convolution's block."""
    network = Sequential((Conv2D((2, 2, CHANNELS, HIDDEN)), MeanPool2D()))
    layer = _first(trial, network, _images(trial), NARROW)
    uses = HEIGHT * WIDTH if holds else 1
    found = uses * layer.kfac(trial)[-HIDDEN:, -HIDDEN:]
    truth = layer.fisher[-HIDDEN:, -HIDDEN:]
    return trial.judged(found, truth, terms=layer.terms, size=HIDDEN)


@theorem(
    "T12",
    condition="inputs and gradients do not depend on the location, one case",
    claim="T K = F",
    source="the sum over T equal uses is T times one",
    twin="K itself",
)
def constant_images_lack_their_number(trial: Trial, holds: bool) -> Measured:
    """Give a convolution with a kernel of one pixel a constant image."""
    network = Sequential((Conv2D((1, 1, CHANNELS, HIDDEN)), MeanPool2D()))
    pixel = trial.rng().standard_normal((1, 1, 1, CHANNELS))
    x = np.tile(pixel, (1, HEIGHT, WIDTH, 1))
    layer = _first(trial, network, x, SOFTMAX)
    found = (HEIGHT * WIDTH if holds else 1) * layer.kfac(trial)
    return trial.judged(found, layer.fisher, terms=layer.terms, size=len(found))


@theorem(
    "T11",
    condition="a shared layer that each case uses once",
    claim="its block is that of an unshared layer",
    source="definition",
    twin="the same rows as uses of one case",
)
def one_use_is_no_sharing(trial: Trial, holds: bool) -> Measured:
    """Compare a block for several uses with the block for one."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    x, g = rng.standard_normal((n, d)), rng.standard_normal((n, o))
    plain = FullyConnectedKFACBasicFB(d, o)
    shared = FullyConnectedMultiIndepFB(d, o, num_uses=1 if holds else n)
    found = trial.call(verbs.dense, shared, (x, g))
    truth = trial.call(verbs.dense, plain, (x, g))
    return trial.judged(found, truth, terms=n)


@theorem(
    "T31",
    condition="a kernel as large as the image, no padding",
    claim="the block is that of a dense layer on the flattened image",
    source="one location, whose patch is the image",
    twin="a smaller kernel, whose locations are pooled",
)
def a_whole_kernel_is_dense(trial: Trial, holds: bool) -> Measured:
    """Compare a convolution's block with the Fisher of a dense layer."""
    x, rng = _images(trial), trial.rng()
    kernel = (HEIGHT, WIDTH) if holds else (HEIGHT, 1)
    conv = Conv2D((*kernel, CHANNELS, HIDDEN), padding="VALID")
    rest = (Tanh(), Dense(HIDDEN, 2))
    pool = Flatten() if holds else MeanPool2D()
    convolutional = Sequential((conv, pool, *rest))
    params = random_params(convolutional, rng)
    layer = layer_of(convolutional, params, x, SOFTMAX, 0)
    if not holds:
        # The Fisher of the same weights, used at all locations of a case.
        return trial.judged(
            layer.kfac(trial), layer.fisher, terms=layer.terms, size=len(layer.fisher)
        )
    dense = Sequential((Flatten(), Dense(HEIGHT * WIDTH * CHANNELS, HIDDEN), *rest))
    same = dense.vector_to_params(convolutional.params_to_vector(params))
    other = layer_of(dense, same, x, SOFTMAX, 0)
    found, truth = layer.kfac(trial), other.kfac(trial)
    return trial.judged(found, truth, terms=layer.terms, size=len(found))


THEOREMS = (
    a_regression_at_each_location_is_exact,
    a_regression_on_the_mean_is_exact,
    a_regression_on_a_weighted_mean_is_exact,
    one_pooled_case_is_exact,
    the_bias_lacks_correlations,
    constant_images_lack_their_number,
    one_use_is_no_sharing,
    a_whole_kernel_is_dense,
)
