"""What each group of a grouped convolution sees, and the gradients of its outputs.

Channels are grouped in order. Let there be ``J`` input channels, ``I`` output channels
and ``groups`` groups, and let ``M = I / groups``. Then group ``i`` computes the outputs
``i M`` to ``(i + 1) M`` from the inputs ``i J / groups`` to ``(i + 1) J / groups``. A
depthwise convolution has one group for each input channel.
"""

import math

from kfac_core.backend import Backend
from kfac_core.statistics.patches.second_moment import patch_rows
from kfac_core.statistics.patches.window import Window
from kfac_core.typing import Array


def grouped_patches(
    backend: Backend, x: Array, window: Window, num_groups: int
) -> Array:
    """Return the patches of every group.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``, or channels first as the window says.
        window: Where the convolution looks.
        num_groups: Number of groups.

    Returns:
        ``[batch, locations, num_groups, kernel * channels / num_groups]``, each patch
        laid out kernel axes first.
    """
    xp = backend.xp
    rows = patch_rows(backend, x, window)
    batch, locations, width = rows.shape
    taps = math.prod(window.kernel)
    channels = width // (taps * num_groups)
    cells = xp.reshape(rows, (batch, locations, taps, num_groups, channels))
    cells = xp.permute_dims(cells, (0, 1, 3, 2, 4))
    return xp.reshape(cells, (batch, locations, num_groups, taps * channels))


def grouped_gradients(
    backend: Backend, g: Array, window: Window, num_groups: int
) -> Array:
    """Return output gradients by group.

    Args:
        backend: Backend of `g`.
        g: ``[batch, ..locations.., out_channels]``, or channels first.
        window: Where the convolution looks.
        num_groups: Number of groups.

    Returns:
        ``[batch, locations, num_groups, out_channels / num_groups]``.
    """
    last = window.to_channels_last(backend, g)
    batch, *locations, channels = last.shape
    shape = (batch, math.prod(locations), num_groups, channels // num_groups)
    return backend.xp.reshape(last, shape)
