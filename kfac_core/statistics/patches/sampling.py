"""The second moment of some cases and patches, drawn at random.

Samples are drawn without replacement, and all samples of one size are equally likely.
So the mean over all samples is the second moment of all patches.
"""

from collections.abc import Sequence

from kfac_core.arguments.random_keys import drawn
from kfac_core.backend import Backend
from kfac_core.statistics.patches.second_moment import patch_rows
from kfac_core.statistics.patches.window import Window
from kfac_core.statistics.rows import second_moment
from kfac_core.statistics.weighted_rows import by_row, weigh
from kfac_core.typing import Array, Key, Scalar


def choose(backend: Backend, uniforms: Array, count: int) -> Array:
    """Return the places ``[count]`` of the smallest numbers.

    Args:
        backend: Backend of the numbers.
        uniforms: ``[n]``, independent, from one distribution, so that all sets of
            places are equally likely.
        count: How many places, at most ``n``.

    Returns:
        Integers ``[count]``, all different.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> uniforms = np.asarray([0.5, 0.1, 0.7, 0.2])
        >>> choose(backend_of(uniforms), uniforms, 2)
        array([1, 3])
    """
    return backend.xp.argsort(uniforms)[:count]


def sampled_second_moment(
    backend: Backend,
    towers: Sequence[Array],
    window: Window,
    sizes: Sequence[tuple[int, int]],
    key: Key,
    label: str,
    *,
    has_bias: bool = False,
    roots: Sequence[Array] | None = None,
    count: Scalar | None = None,
) -> Array:
    """Return the second moment of a sample of each tower's patches.

    A tower has the weight of all its patches, drawn or not.

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        window: Where the convolution looks.
        sizes: For each tower, how many of its cases to draw, and how many patches of
            the drawn cases.
        key: What to draw from; one array of numbers is drawn.
        label: Name of the layer, for the message.
        has_bias: Whether each patch ends in a one.
        roots: For each tower the roots of the weights, ``[batch]`` or ``[batch,
            locations]``; None: all patches count alike.
        count: Replaces the number of all patches; None: their number itself.

    Returns:
        ``[n, n]`` with ``n = kernel * channels``, one more with bias.
    """
    xp = backend.xp
    of_towers = [None] * len(towers) if roots is None else roots
    parts = [
        (x, window.num_locations(x), *size, root)
        for x, size, root in zip(towers, sizes, of_towers, strict=True)
        if x.shape[0]
    ]
    pools = [
        pool
        for x, locations, cases, patches, _ in parts
        for pool in ((x.shape[0], cases), (cases * locations, patches))
    ]
    like = towers[0]
    number = sum(size for size, count in pools if count < size)
    device = backend.creation_device(like)
    uniforms = drawn(
        backend, key, label, lambda k: backend.uniform(k, (number,), like.dtype, device)
    )
    start = 0

    def sample(arrays: list[Array], size: int) -> list[Array]:
        """Return `size` rows of each array, the same ones of all."""
        nonlocal start
        rows = arrays[0].shape[0]
        if size == rows:
            return arrays
        places = choose(backend, uniforms[start : start + rows], size)
        start += rows
        return [xp.take(x, places, axis=0) for x in arrays]

    total: Array | float = 0.0
    for x, locations, cases, patches, root in parts:
        weighted = root is not None
        chosen = sample([x] if root is None else [x, root], cases)
        of_cases = patch_rows(backend, chosen[0], window)
        rows = [xp.reshape(of_cases, (cases * locations, of_cases.shape[2]))]
        if weighted:
            rows.append(by_row(backend, chosen[1], locations))
        rows = sample(rows, patches)
        if weighted:
            rows[0] = weigh(backend, *rows)
        moment = second_moment(
            backend, rows[:1], has_bias=has_bias, roots=rows[1:] or None
        )
        total = moment * (x.shape[0] * locations) + total
    all_patches = sum(x.shape[0] * locations for x, locations, *_ in parts)
    mean: Array = total / (all_patches if count is None else count)  # type: ignore[assignment]
    return mean
