"""A bias that stands alone."""

import math
from dataclasses import dataclass

from kfac_core.errors import ShapeError
from kfac_core.linalg.parameters import Shapes
from kfac_core.reference.layer import Layer, Tensors
from kfac_core.registry import backend_of
from kfac_core.typing import Array


@dataclass(frozen=True)
class Bias(Layer):
    """``y = x + b``, the bias aligned with the last axes and broadcast.

    Attributes:
        shape: Shape of the bias.

    Example:
        >>> import numpy as np
        >>> y, cache = Bias((2,)).forward((np.asarray([1.0, 2.0]),), np.zeros((1, 2)))
        >>> y
        array([[1., 2.]])
        >>> Bias((2,)).param_gradients(cache, np.ones((3, 4, 2)))[0]
        array([12., 12.])
    """

    shape: tuple[int, ...]

    @property
    def param_shapes(self) -> Shapes:
        """``(shape,)``."""
        return (self.shape,)

    def init_from(self, normals: Array) -> Tensors:
        """Return zeros."""
        xp = backend_of(normals).xp
        return (xp.zeros_like(xp.reshape(normals, self.shape)),)

    def forward(self, params: Tensors, x: Array) -> tuple[Array, Array]:
        """Return ``x + b``; the cache is the input, for its shape."""
        (bias,) = params
        self.check_like_outputs(x, x, "x")
        return x + bias, x

    def check_like_outputs(self, inputs: Array, g: Array, argument: str) -> None:
        """Check that the bias broadcasts to gradients, of any positions.

        Raises:
            ShapeError: If it does not.
        """
        rank = len(self.shape)
        last = tuple(g.shape[-rank:])
        fits = all(a in {1, b} for a, b in zip(self.shape, last, strict=False))
        if len(g.shape) <= rank or not fits:
            msg = (
                f"{self.label}: {argument} has shape {tuple(g.shape)}, expected"
                f" [batch, ...] with last axes to which {self.shape} broadcasts"
            )
            raise ShapeError(msg)

    def backward(self, params: Tensors, cache: Array, g: Array) -> Array:
        """Return `g`; see `Layer.backward`."""
        return g

    def param_gradients(self, cache: Array, g: Array) -> Tensors:
        """Return the sum of `g` over the batch; see `Layer.param_gradients`."""
        xp = backend_of(g).xp
        return tuple(xp.sum(each, axis=0) for each in self.case_gradients(cache, g))

    def case_gradients(self, cache: Array, g: Array) -> Tensors:
        """Return the sum of `g` over all axes of broadcasting, for each case."""
        xp = backend_of(g).xp
        first = g.ndim - len(self.shape)
        axes = [*range(1, first)]
        axes += [first + k for k, size in enumerate(self.shape) if size == 1]
        total = xp.sum(g, axis=tuple(axes), keepdims=True) if axes else g
        batch = g.shape[0]
        rows = xp.reshape(total, (batch, math.prod(self.shape)))
        return (xp.reshape(rows, (batch, *self.shape)),)

    def param_gradients_change(
        self, cache: Array, dx: Array | None, g: Array, dg: Array | None
    ) -> Tensors:
        """Return the gradients of `dg`; see `Layer.param_gradients_change`."""
        zero = backend_of(g).xp.zeros_like(g)
        return self.param_gradients(cache, zero if dg is None else dg)

    def push_forward(
        self, params: Tensors, cache: Array, tangents: Tensors, dx: Array | None
    ) -> Array:
        """Return ``dx + db``; see `Layer.push_forward`."""
        xp = backend_of(cache, *tangents).xp
        change = xp.zeros_like(cache) + tangents[0]
        return change if dx is None else change + dx
