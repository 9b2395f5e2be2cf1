"""Keys and noise that nothing is drawn from are checked as if something were."""

import numpy as np
import pytest
from optimizer_cases import optimizer_of, problem

import kfac_core as kc

NO_KEYS = {"zero": 0, "word": "key", "list": [], "floats": np.zeros(2)}
X, G = np.ones((2, 3, 1)), np.ones((2, 3, 1))
POINTWISE = kc.ConvolutionGeometry((1, 1, 1), padding="VALID")
CONVOLUTION = {"geometry": POINTWISE, "name": "layer7"}


def a_key(library):
    """Return a key of a library, and what tells whether it has changed."""
    if library.package == "torch":
        import torch

        key = torch.Generator()
        return key, lambda: key.get_state().tolist()
    if library.package == "jax":
        import jax

        return jax.random.key(0), lambda: None
    key = np.random.default_rng(0)
    return key, lambda: key.bit_generator.state


def fold_in_a_block(library, key):
    block = kc.blocks.ConvKFCBasicFB(**CONVOLUTION)
    x, g = library.asarray(X), library.asarray(G)
    return block.update_covs(block.init(x), x, g, 0.0, key=key)


def fold_in_a_shared_block(library, key):
    block = kc.blocks.ConvKFCBasicMultiIndepFB(**CONVOLUTION, num_uses=1)
    x, g = library.asarray(X), library.asarray(G)
    return block.update_covs(block.init(x), x, g, 0.0, key=key)


def fold_in_a_factor(library, key):
    factor = kc.factors.ConvInputKroneckerFactor(**CONVOLUTION)
    x = library.asarray(X)
    return factor.update_cov(factor.init(x), x, 0.0, key=key)


def step(library, key=None, **given):
    params, batch = problem(library)
    optimizer = optimizer_of()
    return optimizer.step(optimizer.init(params), params, batch, key=key, **given)


DRAWING_NOTHING = {
    "block": (fold_in_a_block, "layer7: key is"),
    "shared": (fold_in_a_shared_block, "layer7: key is"),
    "factor": (fold_in_a_factor, "layer7: key is"),
    "step": (step, "FisherEstimator: key is"),
}


@pytest.mark.parametrize("verb", DRAWING_NOTHING)
def test_what_is_no_key_is_refused(plain_library, verb):
    call, words = DRAWING_NOTHING[verb]
    for key in NO_KEYS.values():
        with pytest.raises(kc.errors.ArgumentError, match=words):
            call(plain_library, key)


@pytest.mark.parametrize("verb", DRAWING_NOTHING)
def test_a_key_is_taken_and_stays_as_it_is(plain_library, verb):
    key, told = a_key(plain_library)
    before = told()
    DRAWING_NOTHING[verb][0](plain_library, key)
    assert told() == before


def test_noise_of_no_use_is_noise(plain_library):
    step(plain_library, noise={"outputs": plain_library.asarray(np.ones((1, 2)))})
    for noise in (3, "noise", [1.0], {"outputs": 0.5}, {"outputs": None}):
        with pytest.raises(kc.KfacError, match="FisherEstimator: noise"):
            step(plain_library, noise=noise)
