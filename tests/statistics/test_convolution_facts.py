"""What convolutions of other libraries and layers are, where one might doubt it."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.registry import backend_of
from kfac_core.statistics.patches.second_moment import extract_patches
from kfac_core.statistics.patches.window import Window

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""PyTorch's ``padding_mode``, and NumPy's name of it."""


def test_an_infinite_pixel_stays_in_its_own_patches(plain_library, rng):
    """Patches that are made by a product with ones and zeros are all NaN then."""
    image = rng.normal(size=(1, 5, 5, 1))
    image[0, 1, 2, 0] = np.inf
    x = plain_library.asarray(image)
    window = Window((2, 3), (1, 1), (1, 1), "VALID")
    found = plain_library.to_numpy(extract_patches(backend_of(x), x, window))
    views = np.lib.stride_tricks.sliding_window_view(image[0, ..., 0], (2, 3))
    np.testing.assert_array_equal(found[0, ..., 0], views)
    assert np.isinf(found).sum() == 2 * 3


@pytest.mark.parametrize("mode", MODES)
def test_a_padding_mode_is_to_pad_first_and_then_not_at_all(torch, mode, rng):
    layer = torch.nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode, bias=False).double()
    x, g = rng.normal(size=(4, 1, 5, 4)), rng.normal(size=(4, 2, 5, 4))
    squares = 0.0
    for case, vector in zip(torch.from_numpy(x), torch.from_numpy(g), strict=True):
        layer.zero_grad()
        (layer(case[None])[0] * vector).sum().backward()
        squares = squares + layer.weight.grad.numpy() ** 2 / 4
    geometry = kc.ConvolutionGeometry(
        (2, 1, 3, 3), padding="VALID", data_format="NCHW", layout="OIHW"
    )
    block = kc.blocks.ConvDiagonalFB(geometry)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=MODES[mode])
    state = block.update_covs(block.init(like=x), padded, g, ema_decay=0.0)
    found = np.diag(block.full_fisher_block(state)).reshape(squares.shape)
    np.testing.assert_allclose(found, squares, rtol=1e-12)
