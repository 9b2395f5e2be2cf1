"""`Library`: what the benchmarks need of an array library beyond the standard."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measuring import Call
from kfac_core.statistics.patches.window import Window

Function = Callable[..., Any]


class Convolution(NamedTuple):
    """A convolution and its inputs, ``SAME`` in padding.

    Attributes:
        kernel: Width of the kernel.
        stride: Stride.
        shape: Batch, height, width, channels.
    """

    kernel: int
    stride: int
    shape: tuple[int, int, int, int]

    def __str__(self) -> str:
        sizes = "×".join(map(str, self.shape))
        return f"{self.kernel}×{self.kernel}/{self.stride}, {sizes}"

    @property
    def window(self) -> Window:
        """Where it looks, channels last."""
        pair = (self.kernel, self.kernel)
        return Window(pair, (self.stride,) * 2, (1, 1), self.padding)

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Symmetric widths, as PyTorch has them, for every library the same."""
        return ((self.kernel // 2, self.kernel // 2),) * 2

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the outputs."""
        high, wide = self.shape[1:3]
        width = 2 * (self.kernel // 2) - self.kernel
        return (high + width) // self.stride + 1, (wide + width) // self.stride + 1


def as_is(x: Any) -> Any:
    """Return `x`."""
    return x


@dataclass(frozen=True)
class Library:
    """What the benchmarks need of a library; functions are of its arrays.

    Attributes:
        name: Its name.
        packages: The packages whose versions are recorded.
        array: From an array of NumPy's, a copy.
        inverse: By the library's general inverse.
        eigh: Eigenvalues and eigenvectors of a symmetric matrix.
        cholesky_inverse: By the library's Cholesky factorisation, and the quickest way
            to the inverse from there; one triangle will do.
        cholesky_inverses: Whole inverses by its Cholesky factorisation, by name: first
            what one would write.
        one_hot: Ids and their number, as a float32 matrix.
        count: How many times each id occurs, the library's quickest.
        patches: Images in its own order of axes, and a `Convolution`: its own patches
            as rows, channels before kernel axes.
        patches_name: How it calls them.
        peak: Bytes at the peak of a function of one array, its result included, the
            input not.
        data_format: Its order of an image's axes.
        compiled: Compiles a function, or returns it.
        wait: Waits until a result is there.
    """

    name: str
    packages: tuple[str, ...]
    array: Callable[[np.ndarray], Any]
    inverse: Function
    eigh: Function
    cholesky_inverse: Function
    cholesky_inverses: Mapping[str, Function]
    one_hot: Function
    count: Function
    patches: Callable[[Any, Convolution], Any]
    patches_name: str
    peak: Callable[[Function, Any], float]
    data_format: str = "NHWC"
    compiled: Callable[[Function], Function] = as_is
    wait: Callable[[Any], Any] = as_is

    def call(self, function: Function, *arguments: Any) -> Call:
        """Return the call of a function, compiled where that is how one does it."""
        compiled, wait = self.compiled(function), self.wait
        return lambda: wait(compiled(*arguments))

    def once(self, function: Function, *arguments: Any) -> Any:
        """Return a result that is needed before anything is timed."""
        return self.call(function, *arguments)()

    def image(self, x: np.ndarray) -> Any:
        """Return images ``[batch, height, width, channels]`` in its order of axes."""
        if self.data_format == "NCHW":
            x = np.ascontiguousarray(np.moveaxis(x, -1, 1))
        return self.array(x)

    def rows(self, image: Any) -> Any:
        """Return the pixels of images in its order of axes, as rows of channels."""
        if self.data_format == "NCHW":
            image = image.permute(0, 2, 3, 1)
        return image.reshape(-1, image.shape[-1])
