"""`AffineLayer`: the layers that multiply rows with weights and add a bias.

Inputs become rows ``a[n, t]`` ``[batch, locations, features]``, linearly and without
parameters: the inputs themselves for a dense layer, patches for a convolution, counts
of ids for an embedding. With outputs ``s[n, t] = a[n, t] W + b`` and their gradients
``g[n, t]``, case ``n`` has the gradients

    dW = sum_t a[n, t]' g[n, t],    db = sum_t g[n, t].

K-FAC takes the second moments of these rows and gradients.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg.parameters import Shapes
from kfac_core.reference.checked import check_class
from kfac_core.reference.layer import Layer, Tensors
from kfac_core.registry import backend_of
from kfac_core.typing import Array


class AffineCache(NamedTuple):
    """What an affine layer keeps of its forward pass.

    Attributes:
        inputs: Inputs of the layer, as they came.
        rows: ``[batch, locations, features]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Conv2D
        >>> layer = Conv2D((1, 2, 1, 1), padding="VALID")
        >>> x = np.asarray([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1)
        >>> params = layer.init(np.random.default_rng(0), like=x)
        >>> _, cache = layer.forward(params, x)
        >>> cache.inputs.shape, cache.rows  # the patches
        ((1, 1, 3, 1), array([[[1., 2.],
                [2., 4.]]]))
    """

    inputs: Array
    rows: Array


@dataclass(frozen=True)
class AffineLayer(Layer):
    """Abstract base of the layers with parameters.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Dense
        >>> layer: AffineLayer = Dense(2, 1)
        >>> layer.param_shapes, layer.fan_in
        (((2, 1), (1,)), 2)
        >>> params = (np.asarray([[1.0], [10.0]]), np.asarray([100.0]))
        >>> outputs, _ = layer.forward(params, np.asarray([[1.0, 2.0]]))
        >>> outputs
        array([[121.]])
    """

    @property
    @abstractmethod
    def weights_shape(self) -> tuple[int, ...]:
        """Shape of the weights: the axes of a row, then the outputs."""

    @property
    @abstractmethod
    def bias_size(self) -> int:
        """Length of the bias; 0 if there is none."""

    @property
    def fan_in(self) -> int:
        """Number of weights that add up in one output."""
        return math.prod(self.weights_shape[:-1])

    @abstractmethod
    def rows(self, backend: Backend, x: Array, like: Array) -> Array:
        """Return the inputs as rows ``[batch, locations, features]``, of a dtype."""

    @abstractmethod
    def output_shape(self, x: Array) -> tuple[int, ...]:
        """Return the shape of the outputs for inputs `x`."""

    @property
    def param_shapes(self) -> Shapes:
        """``(weights,)`` or ``(weights, bias)``."""
        bias = ((self.bias_size,),) if self.bias_size else ()
        return (self.weights_shape, *bias)

    def init_from(self, normals: Array) -> Tensors:
        """Return weights of variance ``1 / fan_in``, and a bias of zeros."""
        xp = backend_of(normals).xp
        size = math.prod(self.weights_shape)
        weights = xp.reshape(normals[:size], self.weights_shape)
        bias = (xp.zeros_like(normals[size:]),) if self.bias_size else ()
        return (weights / math.sqrt(self.fan_in), *bias)

    def forward(self, params: Tensors, x: Array) -> tuple[Array, AffineCache]:
        """Return ``rows @ weights + bias``; see `Layer.forward`."""
        backend = backend_of(x, *params)
        rows = self.rows(backend, x, params[0])
        outputs = self._apply(backend, rows, params)
        cache = AffineCache(x, rows)
        return backend.xp.reshape(outputs, self.output_shape(x)), cache

    def param_gradients(self, cache: AffineCache, g: Array) -> Tensors:
        """Return the gradients, summed over the batch; see `Layer.param_gradients`."""
        backend = backend_of(cache.rows, g)
        xp = backend.xp
        rows = xp.reshape(cache.rows, (-1, self.fan_in))
        gradients = xp.reshape(g, (-1, self.weights_shape[-1]))
        weights = xp.reshape(backend.matmul(rows.mT, gradients), self.weights_shape)
        bias = (xp.sum(gradients, axis=0),) if self.bias_size else ()
        return (weights, *bias)

    def case_gradients(self, cache: AffineCache, g: Array) -> Tensors:
        """Return each case's gradients; see `Layer.case_gradients`."""
        backend = backend_of(cache.rows, g)
        xp = backend.xp
        batch, locations, _ = cache.rows.shape
        gradients = xp.reshape(g, (batch, locations, self.weights_shape[-1]))
        products = backend.matmul(cache.rows.mT, gradients)
        weights = xp.reshape(products, (batch, *self.weights_shape))
        bias = (xp.sum(gradients, axis=1),) if self.bias_size else ()
        return (weights, *bias)

    def param_gradients_change(
        self, cache: AffineCache, dx: Array | None, g: Array, dg: Array | None
    ) -> Tensors:
        """Return ``rows(dx)' g + rows' dg`` and ``sum dg``; see `Layer`."""
        zero = backend_of(g).xp.zeros_like(g)
        changes = self.param_gradients(cache, zero if dg is None else dg)
        if dx is None:
            return changes
        backend = backend_of(cache.rows, dx)
        moved = AffineCache(dx, self.rows(backend, dx, cache.rows))
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
        """Return ``dg W' + g dW'``, pulled back to the inputs; see `Layer`."""
        change = self.backward(tangents, cache, g)
        return change if dg is None else change + self.backward(params, cache, dg)

    def push_forward(
        self,
        params: Tensors,
        cache: AffineCache,
        tangents: Tensors,
        dx: Array | None,
    ) -> Array:
        """Return ``rows dW + db + rows(dx) W``; see `Layer.push_forward`."""
        backend = backend_of(cache.rows, *tangents)
        change = self._apply(backend, cache.rows, tangents)
        if dx is not None:
            rows = self.rows(backend, dx, params[0])
            change = change + self._apply(backend, rows, params[:1])
        return backend.xp.reshape(change, self.output_shape(cache.inputs))

    def cached_inputs(self, cache: AffineCache) -> Array:
        """Return the inputs of a forward pass.

        Raises:
            ArgumentError: If the cache is not that of an affine layer.
        """
        check_class(cache, AffineCache, "cache", self.label)
        return cache.inputs

    def _apply(self, backend: Backend, rows: Array, params: Tensors) -> Array:
        """Return ``[batch * locations, outputs]``, by one product for all cases."""
        xp = backend.xp
        weights, *bias = params
        flat = xp.reshape(rows, (-1, self.fan_in))
        matrix = xp.reshape(weights, (self.fan_in, self.weights_shape[-1]))
        outputs = backend.matmul(flat, matrix)
        return outputs + bias[0][None, :] if bias else outputs
