"""Layers without parameters: activations, pooling, change of shape."""

import math
from abc import abstractmethod
from dataclasses import dataclass

from kfac_core.arguments.arrays import check_shape
from kfac_core.arguments.sizes import as_shape
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.reference.layer import Cache, Layer, Tensors
from kfac_core.registry import backend_of
from kfac_core.typing import Array


@dataclass(frozen=True)
class ElementwiseLayer(Layer):
    """Abstract base of the layers that map each entry by itself.

    Example:
        >>> import numpy as np
        >>> layer: ElementwiseLayer = Tanh()
        >>> x, one = np.asarray([[0.0, 1.0]]), np.ones((1, 2))
        >>> _, cache = layer.forward((), x)
        >>> layer.multiply_derivative(cache, one).round(4)  # 1 - tanh(x)^2
        array([[1.  , 0.42]])
        >>> layer.multiply_second_derivative(cache, one).round(4)
        array([[-0.    , -0.6397]])
    """

    @abstractmethod
    def multiply_derivative(self, cache: Array, v: Array) -> Array:
        """Return `v` times the derivative at each entry."""

    @abstractmethod
    def multiply_second_derivative(self, cache: Array, v: Array) -> Array:
        """Return `v` times the second derivative at each entry."""

    def backward(self, params: Tensors, cache: Array, g: Array) -> Array:
        """Return `g` times the derivative; see `Layer.backward`."""
        return self.multiply_derivative(cache, g)

    def backward_change(
        self,
        params: Tensors,
        cache: Array,
        tangents: Tensors,
        dx: Array | None,
        g: Array,
        dg: Array | None,
    ) -> Array | None:
        """Return ``f'' dx g + f' dg``; see `Layer.backward_change`."""
        bent = None if dx is None else self.multiply_second_derivative(cache, dx * g)
        passed = None if dg is None else self.multiply_derivative(cache, dg)
        if bent is None or passed is None:
            return passed if bent is None else bent
        return bent + passed

    def push_forward(
        self, params: Tensors, cache: Array, tangents: Tensors, dx: Array | None
    ) -> Array | None:
        """Return `dx` times the derivative; see `Layer.push_forward`."""
        return None if dx is None else self.multiply_derivative(cache, dx)


@dataclass(frozen=True)
class Tanh(ElementwiseLayer):
    """The hyperbolic tangent of each entry.

    Example:
        >>> import numpy as np
        >>> y, cache = Tanh().forward((), np.asarray([[0.0, 1.0]]))
        >>> Tanh().backward((), cache, np.ones((1, 2))).round(3)
        array([[1.  , 0.42]])
    """

    def forward(self, params: Tensors, x: Array) -> tuple[Array, Array]:
        """Return ``tanh(x)``, which is the cache as well."""
        y = backend_of(x).xp.tanh(x)
        return y, y

    def multiply_derivative(self, cache: Array, v: Array) -> Array:
        """Return ``(1 - y^2) v``."""
        return v * (1 - cache * cache)

    def multiply_second_derivative(self, cache: Array, v: Array) -> Array:
        """Return ``-2 y (1 - y^2) v``."""
        return -2 * cache * self.multiply_derivative(cache, v)


@dataclass(frozen=True)
class ReLU(ElementwiseLayer):
    """The positive part of each entry, its derivative at zero being zero.

    Example:
        >>> import numpy as np
        >>> ReLU().forward((), np.asarray([[-1.0, 0.0, 2.0]]))[0]
        array([[0., 0., 2.]])
    """

    def forward(self, params: Tensors, x: Array) -> tuple[Array, Array]:
        """Return ``max(x, 0)``; the cache is the input."""
        return self.multiply_derivative(x, x), x

    def multiply_derivative(self, cache: Array, v: Array) -> Array:
        """Return `v` where the input is positive."""
        xp = backend_of(cache, v).xp
        return xp.where(cache > 0, v, xp.zeros_like(v))

    def multiply_second_derivative(self, cache: Array, v: Array) -> Array:
        """Return zero, as everywhere but at the kink."""
        return backend_of(v).xp.zeros_like(v)


@dataclass(frozen=True)
class Flatten(Layer):
    """All axes but the batch as one, row-major.

    Example:
        >>> import numpy as np
        >>> Flatten().forward((), np.zeros((5, 2, 2, 3)))[0].shape
        (5, 12)
    """

    def forward(self, params: Tensors, x: Array) -> tuple[Array, Array]:
        """Return ``[batch, rest]``; the cache is the input, for its shape."""
        return self._flat(x), x

    def backward(self, params: Tensors, cache: Array, g: Array) -> Array:
        """Return `g` in the shape of the input; see `Layer.backward`."""
        return backend_of(g).xp.reshape(g, cache.shape)

    def push_forward(
        self, params: Tensors, cache: Cache, tangents: Tensors, dx: Array | None
    ) -> Array | None:
        """Return `dx` flattened; see `Layer.push_forward`."""
        return None if dx is None else self._flat(dx)

    def output_shape(self, x: Array) -> tuple[int, ...]:
        """``(batch, rest)``."""
        return (x.shape[0], math.prod(x.shape[1:]))

    def _flat(self, x: Array) -> Array:
        # Not -1, which an empty batch leaves undetermined.
        return backend_of(x).xp.reshape(x, self.output_shape(x))


@dataclass(frozen=True)
class MeanPool2D(Layer):
    """The mean over windows that tile an image ``[batch, height, width, channels]``.

    Attributes:
        size: Height and width of a window, which divide those of the image; None: one
            window over the whole image, and the outputs are ``[batch, channels]``.

    Example:
        >>> import numpy as np
        >>> image = np.arange(8.0).reshape(1, 2, 4, 1)
        >>> MeanPool2D((2, 2)).forward((), image)[0].reshape(-1)
        array([2.5, 4.5])
        >>> MeanPool2D().forward((), image)[0]
        array([[3.5]])
    """

    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check the window.

        Raises:
            ArgumentError: If it is neither None nor two positive integers.
        """
        if self.size is None:
            return
        size = as_shape(self.size, "size", self.label)
        if len(size) != 2:
            msg = f"{self.label}: size is {size}, expected height and width, or None"
            raise ArgumentError(msg)
        object.__setattr__(self, "size", size)

    def output_shape(self, x: Array) -> tuple[int, ...]:
        """``(batch, rows, columns, channels)``, or ``(batch, channels)``."""
        batch, rows, _, columns, _, channels = self._windows(x)
        whole = self.size is None
        return (batch, channels) if whole else (batch, rows, columns, channels)

    def forward(self, params: Tensors, x: Array) -> tuple[Array, Array]:
        """Return the means; the cache is the input, for its shape."""
        return self._pool(x), x

    def backward(self, params: Tensors, cache: Array, g: Array) -> Array:
        """Return `g` shared equally by each window's entries; see `Layer.backward`."""
        xp = backend_of(g).xp
        batch, rows, height, columns, width, channels = self._windows(cache)
        means = xp.reshape(g, (batch, rows, 1, columns, 1, channels))
        each = xp.broadcast_to(means, (batch, rows, height, columns, width, channels))
        return xp.reshape(each / (height * width), cache.shape)

    def push_forward(
        self, params: Tensors, cache: Cache, tangents: Tensors, dx: Array | None
    ) -> Array | None:
        """Return the means of `dx`; see `Layer.push_forward`."""
        return None if dx is None else self._pool(dx)

    def _pool(self, x: Array) -> Array:
        xp = backend_of(x).xp
        windows = self._windows(x)
        means = xp.mean(xp.reshape(x, windows), axis=(2, 4))
        return means if self.size is not None else means[:, 0, 0, :]

    def _windows(self, x: Array) -> tuple[int, ...]:
        """Return ``(batch, rows, height, columns, width, channels)`` of the windows."""
        check_shape(x, ("batch", "height", "width", "channels"), "inputs", self.label)
        batch, height, width, channels = x.shape
        down, right = self.size or (height, width)
        if height % down or width % right:
            msg = (
                f"{self.label}: an image of {height} x {width} is not tiled by windows"
                f" of {down} x {right}"
            )
            raise ShapeError(msg)
        return batch, height // down, down, width // right, right, channels
