"""How the time grows with the sizes: exponents fitted to several of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import kfac_core as kc
from benchmarks.cases import normal
from benchmarks.libraries import Library
from benchmarks.libraries.base import Convolution
from benchmarks.measuring import Call
from benchmarks.work.embedding import ids_of, restricted_call, update_call
from kfac_core.statistics.patches.second_moment import patch_second_moment


class Growth(NamedTuple):
    """A piece of work of several sizes.

    Attributes:
        name: The work, and what is the same for all sizes.
        variable: What grows.
        expected: The exponent that the arithmetic says.
        sizes: The sizes.
        call: Returns the call of a size.
        less: Returns a call whose time is taken off, if any.
    """

    name: str
    variable: str
    expected: float
    sizes: tuple[int, ...]
    call: Callable[[int], Call]
    less: Callable[[int], Call] | None = None


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the exponent of the power law of least squares in the logarithms.

    Example:
        >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
        2.0
    """
    slope, _ = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return float(slope)


def growths(library: Library, *, quick: bool) -> Iterator[Growth]:
    """Return all that is expected to grow as a power of a size.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The work.
    """

    def sizes(*large: int) -> tuple[int, ...]:
        return tuple(range(4, 4 + len(large))) if quick else large

    def rows(count: int, width: int) -> Call:
        block = kc.blocks.FullyConnectedKFACBasicFB(width, 1)
        factor, x = block.input_factor, library.array(normal(count, width))
        state = factor.init(like=x)
        return library.call(lambda s, x: factor.update_cov(s, x, 0.95), state, x)

    def image(layer: Convolution) -> Call:
        x = library.array(normal(*layer.shape))
        backend, window = kc.backend_of(x), layer.window
        return library.call(lambda x: patch_second_moment(backend, [x], window), x)

    def inverse(width: int) -> Call:
        factor = kc.blocks.FullyConnectedKFACBasicFB(width, 1).input_factor
        x = library.array(normal(2 * width, width))
        state = library.once(factor.update_cov, factor.init(like=x), x, 0.95)
        return library.call(lambda s: factor.update_inverses(s, 0.1), state)

    wide = 8 if quick else 512
    yield Growth(
        f"update_cov, {wide} columns",
        "rows",
        1,
        sizes(2048, 4096, 8192, 16384),
        lambda n: rows(n, wide),
    )
    yield Growth(
        "update_cov, 4096 rows",
        "columns",
        2,
        sizes(256, 512, 1024, 2048),
        lambda n: rows(8 if quick else 4096, n),
    )
    yield Growth(
        "update_inverses",
        "columns",
        3,
        sizes(1024, 1536, 2048, 3072),
        inverse,
    )
    yield Growth(
        "convolution 3×3, 4 images, 64 channels",
        "side of the image",
        2,
        sizes(32, 48, 64, 96),
        lambda n: image(Convolution(3, 1, (4, n, n, 64))),
    )
    yield Growth(
        "convolution 3×3, 4 images of 32 pixels",
        "channels",
        2,
        sizes(64, 96, 128, 192, 256),
        lambda n: image(Convolution(3, 1, (4, 32, 32, n))),
    )
    yield Growth(
        "convolution, 64 images of 32 pixels, 32 channels",
        "side of the kernel",
        2,
        (3, 5) if quick else (3, 5, 7, 9),
        lambda n: image(Convolution(n, 1, (1 if quick else 64, 32, 32, 32))),
    )
    yield from _of_ids(library, sizes)


def _of_ids(
    library: Library, sizes: Callable[..., tuple[int, ...]]
) -> Iterator[Growth]:
    """Return the growth of an embedding's work with the ids and their number."""

    def counted(vocabulary: int) -> Call:
        ids = ids_of(library, 8192, vocabulary)
        old: Any = library.array(np.zeros(vocabulary, np.float32))
        return library.call(
            lambda a, i: 0.95 * a + library.count(i, vocabulary), old, ids
        )

    yield Growth(
        "embedding update_cov, 100,000 ids in the vocabulary",
        "ids in the batch",
        1,
        sizes(2**17, 2**18, 2**19, 2**20),
        lambda n: update_call(library, 100_000, n)[0],
    )
    # Vectors all so large that memory is asked of the system for each.
    vocabularies = sizes(12 * 10**6, 24 * 10**6, 36 * 10**6, 48 * 10**6)
    yield Growth(
        "embedding update_cov, 8192 ids in the batch",
        "vocabulary",
        1,
        vocabularies,
        lambda n: update_call(library, n, 8192)[0],
    )
    yield Growth(
        "bincount and average, for comparison",
        "vocabulary",
        1,
        vocabularies,
        counted,
    )
    yield Growth(
        "embedding update_cov, 65,536 ids in the batch, less that of one id",
        "vocabulary",
        0,
        sizes(1000, 4000, 16_000, 64_000),
        lambda n: update_call(library, n, 2**16)[0],
        lambda n: update_call(library, n, 1)[0],
    )
    yield Growth(
        "embedding, inverse times 1024 rows, width 64",
        "vocabulary",
        0,
        sizes(10**3, 10**4, 10**5, 10**6),
        lambda n: restricted_call(library, n, 1024, 64)[0],
    )
