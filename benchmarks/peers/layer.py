"""`Layer` and `Peer`: a layer, and another library's way to its two factors."""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.libraries.base import Convolution
from benchmarks.measuring import Call


class Layer(NamedTuple):
    """A layer with bias.

    Attributes:
        shape: Shape of the inputs: rows and width, or batch, height, width, channels.
        outputs: Number of its outputs.
        convolution: What it is, if it is one.
    """

    shape: tuple[int, ...]
    outputs: int
    convolution: Convolution | None = None

    @property
    def inputs(self) -> int:
        """Number of inputs of an output, without the bias."""
        kernel = self.convolution.kernel if self.convolution else 1
        return kernel**2 * self.shape[-1]

    @property
    def locations(self) -> int:
        """Number of output locations of a case."""
        if self.convolution is None:
            return 1
        high, wide = self.convolution.outputs
        return high * wide


class Peer(NamedTuple):
    """Another library's way to the two factors.

    Attributes:
        call: Computes them.
        factors: Computes and returns them: ``A``, with the bias last, and ``G``.
        scales: How many times ours its ``A`` and ``G`` are.
        channels_first: Whether a patch has its channels before the kernel's axes.
    """

    call: Call
    factors: Callable[[], tuple[Any, Any]]
    scales: tuple[float, float]
    channels_first: bool
