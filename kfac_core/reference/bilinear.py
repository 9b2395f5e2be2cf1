"""Bilinear layers."""

from dataclasses import dataclass

from kfac_core.arguments.arrays import check_shape
from kfac_core.backend import Backend
from kfac_core.reference.affine import AffineCache, AffineLayer
from kfac_core.reference.layer import Tensors
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Pair


@dataclass(frozen=True)
class Bilinear(AffineLayer):
    """``y[k] = x1' W[:, :, k] x2 + b[k]``, both inputs side by side in one.

    Attributes:
        first_size: Length of the first input.
        second_size: Length of the second, which comes after it.
        output_size: Length of a row of outputs.
        has_bias: Whether there is a bias.

    Example:
        >>> import numpy as np
        >>> layer = Bilinear(1, 2, 1, has_bias=False)
        >>> weights = np.asarray([[[1.0], [10.0]]])
        >>> layer.forward((weights,), np.asarray([[2.0, 3.0, 4.0]]))[0]
        array([[86.]])
    """

    first_size: int
    second_size: int
    output_size: int
    has_bias: bool = True

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """``(first_size, second_size, output_size)``."""
        return (self.first_size, self.second_size, self.output_size)

    @property
    def bias_size(self) -> int:
        """``output_size``, or 0."""
        return self.output_size if self.has_bias else 0

    def pair(self, x: Array) -> Pair:
        """Return both inputs."""
        size = self.first_size
        check_shape(x, ("batch", size + self.second_size), "inputs", self.label)
        return Pair(x[:, :size], x[:, size:])

    def rows(self, backend: Backend, x: Array, like: Array) -> Array:
        """Return the products of both inputs' entries, each case one row."""
        return self._outer(*self.pair(x))

    def output_shape(self, x: Array) -> tuple[int, int]:
        """``(batch, output_size)``."""
        return (x.shape[0], self.output_size)

    def backward(self, params: Tensors, cache: AffineCache, g: Array) -> Array:
        """Return ``(W g) x2`` and ``x1' (W g)``; see `Layer.backward`."""
        return self._pulled(self._of_rows(params, g), *self.pair(cache.inputs))

    def push_forward(
        self,
        params: Tensors,
        cache: AffineCache,
        tangents: Tensors,
        dx: Array | None,
    ) -> Array:
        """Return the change of the outputs; see `Layer.push_forward`."""
        change = super().push_forward(params, cache, tangents, None)
        if dx is None:
            return change
        backend = backend_of(cache.rows, dx)
        rows = self._rows_change(cache.inputs, dx)
        return change + self._apply(backend, rows, params[:1])

    def param_gradients_change(
        self, cache: AffineCache, dx: Array | None, g: Array, dg: Array | None
    ) -> Tensors:
        """Return the change of the gradients; see `Layer.param_gradients_change`."""
        changes = super().param_gradients_change(cache, None, g, dg)
        if dx is None:
            return changes
        moved = AffineCache(cache.inputs, self._rows_change(cache.inputs, dx))
        weights, *_ = self.param_gradients(moved, g)
        return (changes[0] + weights, *changes[1:])

    def backward_change(
        self,
        params: Tensors,
        cache: AffineCache,
        tangents: Tensors,
        dx: Array | None,
        g: Array,
        dg: Array | None,
    ) -> Array:
        """Return the change of the inputs' gradient; see `Layer.backward_change`."""
        change = super().backward_change(params, cache, tangents, None, g, dg)
        if dx is None:
            return change
        return change + self._pulled(self._of_rows(params, g), *self.pair(dx))

    def _of_rows(self, params: Tensors, g: Array) -> Array:
        """Return the gradient for the products, ``[batch, first, second]``."""
        backend = backend_of(g, *params)
        xp = backend.xp
        matrix = xp.reshape(params[0], (self.fan_in, self.output_size))
        flat = backend.matmul(g, matrix.mT)
        return xp.reshape(flat, (g.shape[0], self.first_size, self.second_size))

    def _pulled(self, of_rows: Array, first: Array, second: Array) -> Array:
        """Return the gradient for both inputs, given that for their products."""
        xp = backend_of(of_rows, first).xp
        of_first = xp.sum(of_rows * second[:, None, :], axis=2)
        of_second = xp.sum(of_rows * first[:, :, None], axis=1)
        return xp.concat([of_first, of_second], axis=1)

    def _rows_change(self, x: Array, dx: Array) -> Array:
        """Return the derivative of the rows along a change of both inputs."""
        (first, second), (d_first, d_second) = self.pair(x), self.pair(dx)
        return self._outer(d_first, second) + self._outer(first, d_second)

    def _outer(self, first: Array, second: Array) -> Array:
        product = first[:, :, None] * second[:, None, :]
        xp = backend_of(first, second).xp
        return xp.reshape(product, (first.shape[0], 1, self.fan_in))
