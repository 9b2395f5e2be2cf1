"""`Layer`: what every layer of a small network can do.

A layer is a frozen spec without arrays; its parameters are a tuple of tensors. Each
derivative is written by hand, once, in the array API standard, so that the same
formulas run on every array library, and none of its tracing is needed to check them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias

from kfac_core.arguments.arrays import backend_for, statistics_dtype
from kfac_core.arguments.random_keys import drawn
from kfac_core.arguments.sizes import check_sizes
from kfac_core.reference.checked import Checked
from kfac_core.typing import Array, Key

Tensors: TypeAlias = tuple[Array, ...]
"""A layer's parameters, or a gradient or tangent of their shapes: none, one or two."""

Cache: TypeAlias = Any
"""What a layer keeps of its forward pass: arrays, in tuples if there are several."""


@dataclass(frozen=True)
class Layer(Checked, ABC):
    """Abstract base of the layers: by itself, one without parameters.

    What the verbs of a layer are given is checked: an error names layer and argument.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Dense, Tanh
        >>> for layer in (Dense(2, 3), Tanh()):
        ...     print(layer.label, layer.param_shapes, layer.num_params)
        Dense ((2, 3), (3,)) 9
        Tanh () 0
    """

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ArgumentError: If one is not a positive integer, or a flag no boolean.
        """
        check_sizes(self)

    def init(self, key: Key, like: Array) -> Tensors:
        """Draw parameters: weights as `init_from` scales them, a bias of zeros.

        Args:
            key: What the array library draws from, such as a `numpy.random.Generator`,
                a `torch.Generator` on the device, or a key of `jax.random.key`.
            like: Array that gives library, device and dtype.

        Returns:
            The parameters, in the shapes of `param_shapes`.

        Raises:
            ArgumentError: If the library draws nothing from the key.
            BackendError: If `like` is not an array.
            DTypeError: If it does not hold real floating-point numbers.
        """
        return self.init_from(normals_for(key, like, self.num_params, self.label))

    def init_from(self, normals: Array) -> Tensors:
        """Return parameters made of standard normal numbers ``[num_params]``."""
        return ()

    @abstractmethod
    def forward(self, params: Tensors, x: Array) -> tuple[Array, Cache]:
        """Return the outputs for inputs ``[batch, ..]``, and what `backward` needs.

        Args:
            params: The parameters.
            x: Inputs, the first axis the batch.

        Returns:
            Outputs, the first axis the batch, and the cache.

        Raises:
            ShapeError: If the inputs have another shape than the layer takes.
        """

    @abstractmethod
    def backward(self, params: Tensors, cache: Cache, g: Array) -> Array:
        """Return each case's gradient for its inputs.

        Args:
            params: The parameters.
            cache: From `forward`.
            g: Gradient for the outputs, of their shape.

        Returns:
            Gradient for the inputs, of their shape.
        """

    def param_gradients(self, cache: Cache, g: Array) -> Tensors:
        """Return the gradient for the parameters, summed over the batch.

        Args:
            cache: From `forward`.
            g: Gradient for the outputs, of their shape.

        Returns:
            The gradients, in the shapes of `param_shapes`.
        """
        return ()

    def case_gradients(self, cache: Cache, g: Array) -> Tensors:
        """Return as `param_gradients` does, each case's own along a first axis."""
        return ()

    def param_gradients_change(
        self, cache: Cache, dx: Array | None, g: Array, dg: Array | None
    ) -> Tensors:
        """Return the derivative of `param_gradients`; see `backward_change`.

        Returns:
            The changes, in the shapes of `param_shapes`.
        """
        return ()

    def backward_change(
        self,
        params: Tensors,
        cache: Cache,
        tangents: Tensors,
        dx: Array | None,
        g: Array,
        dg: Array | None,
    ) -> Array | None:
        """Return the derivative of `backward` along a change of all that goes in.

        By default that of a layer whose outputs are linear in its inputs, and that has
        no parameters.

        Args:
            params: The parameters.
            cache: From `forward`.
            tangents: Change of the parameters, in the shapes of `param_shapes`.
            dx: Change of the inputs, of their shape; None for zero.
            g: Gradient for the outputs, of their shape.
            dg: Its change; None for zero.

        Returns:
            Change of the gradient for the inputs, of their shape; None for zero.
        """
        return None if dg is None else self.backward(params, cache, dg)

    @abstractmethod
    def push_forward(
        self, params: Tensors, cache: Cache, tangents: Tensors, dx: Array | None
    ) -> Array | None:
        """Return the derivative of the outputs along a change of all that goes in.

        Args:
            params: The parameters.
            cache: From `forward`.
            tangents: Change of the parameters, in the shapes of `param_shapes`.
            dx: Change of the inputs, of their shape; None for zero.

        Returns:
            Change of the outputs, of their shape; None for zero.
        """


def normals_for(key: Key, like: Array, size: int, label: str) -> Array:
    """Return standard normal numbers ``[size]``, drawn beside `like`, in its dtype."""
    backend = backend_for(label, "like", like)
    dtype = statistics_dtype(backend, like, "like", label)
    device = backend.creation_device(like)
    normals = drawn(
        backend, key, label, lambda own: backend.normal(own, (size,), dtype, device)
    )
    return backend.xp.astype(normals, like.dtype)
