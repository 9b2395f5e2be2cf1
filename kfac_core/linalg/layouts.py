"""Layouts: the order in which a framework keeps the axes of a layer's weights.

The library's own order is the kernel first, then inputs, then outputs: ``[in, out]``,
``[height, width, in, out]``. A layout names another order. A block then takes and
returns vectors in the order of the layout; views bring them into the library's order
and back.

A layout of a convolution names the axes: ``I`` and ``O`` are the channels, ``D``, ``H``
and ``W`` the kernel's. The names for two dimensions also serve for one and three:
``"OIHW"`` then stands for ``"OIW"`` and ``"OIDHW"``.
"""

import math
from dataclasses import dataclass, field
from itertools import permutations
from typing import Literal

import numpy as np

from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.typing import Array

DenseLayout = Literal["in_out", "out_in"]
"""Layout of a matrix of weights: ``[in, out]``, or ``[out, in]`` as in PyTorch."""

KernelLayout = str
"""Layout of a convolution's weights: ``"HWIO"``, ``"OIHW"`` or another order."""

DENSE_LAYOUTS = ("in_out", "out_in")
"""The layouts of a matrix of weights."""


@dataclass(frozen=True)
class Layout:
    """The layout of the weights of one layer.

    Attributes:
        name: Name of the layout, as the user gave it.
        shape: Shape of the weights as they lie.
        axes: For each axis in the library's order, its place in `shape`.
        is_standard: Whether the layout is the library's own order.
        inverse: For each axis of `shape`, its place in the library's order.
        standard_shape: Shape of the weights in the library's order.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    is_standard: bool = field(init=False, repr=False, compare=False)
    inverse: tuple[int, ...] = field(init=False, repr=False, compare=False)
    standard_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out once what every product needs."""
        rank = range(len(self.axes))
        object.__setattr__(self, "is_standard", self.axes == tuple(rank))
        object.__setattr__(self, "inverse", tuple(map(self.axes.index, rank)))
        shape = tuple(self.shape[i] for i in self.axes)
        object.__setattr__(self, "standard_shape", shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether `shape` fits the weights, or a matrix in our order."""
        if self.is_standard and len(shape) == 2:
            *leading, last = self.shape
            return shape == (math.prod(leading), last)
        return shape == self.shape

    def of_matrix(self, backend: Backend, dense: Array) -> Array:
        """Return a matrix, given in the library's order, in the order of the layout.

        Args:
            backend: Backend of the matrix.
            dense: ``[n, n]``, on all parameters of the layer, the weights first.

        Returns:
            The matrix, its rows and columns in another order.
        """
        if self.is_standard:
            return dense
        places = np.arange(dense.shape[0])
        size = math.prod(self.shape)
        weights = places[:size].reshape(self.standard_shape).transpose(self.inverse)
        order = backend.xp.asarray(
            [*weights.ravel().tolist(), *places[size:].tolist()],
            device=backend.creation_device(dense),
        )
        by_row = backend.xp.take(dense, order, axis=0)
        return backend.xp.take(by_row, order, axis=1)

    def __str__(self) -> str:
        """Return the shape and the name, for messages."""
        return f"{self.shape} in the layout {self.name!r}"


def dense_layout(
    name: object, input_size: int, output_size: int, layer: str
) -> Layout | None:
    """Return the layout of a matrix of weights, None for the library's own.

    Args:
        name: ``"in_out"`` or ``"out_in"``.
        input_size: Number of inputs, the bias apart.
        output_size: Number of outputs.
        layer: Name of the layer, for the message.

    Returns:
        The layout.

    Raises:
        ArgumentError: If the name is unknown.

    Example:
        >>> dense_layout("out_in", 3, 2, "layer").shape
        (2, 3)
    """
    axes = dense_axes(name, layer)
    if axes == (0, 1):
        return None
    return Layout("out_in", (output_size, input_size), axes)


def dense_axes(name: object, layer: str) -> tuple[int, ...]:
    """Return the places of inputs and outputs among the axes of the weights.

    Raises:
        ArgumentError: If the name is unknown.
    """
    if not isinstance(name, str) or name not in DENSE_LAYOUTS:
        wanted = ", ".join(DENSE_LAYOUTS)
        msg = f"{layer}: layout is {shown(name)}, expected one of {wanted}"
        raise ArgumentError(msg)
    return (0, 1) if name == "in_out" else (1, 0)


def kernel_layout(name: object, filter_shape: tuple[int, ...], layer: str) -> Layout:
    """Return the layout of a convolution's weights.

    Args:
        name: ``"HWIO"``, ``"OIHW"`` or another order of kernel, inputs and outputs.
        filter_shape: Shape of the weights as they lie.
        layer: Name of the layer, for the message.

    Returns:
        The layout.

    Raises:
        ArgumentError: If the name is unknown for so many axes.
        ShapeError: If there are too few or too many.

    Example:
        >>> kernel_layout("OIHW", (8, 4, 3, 3), "layer").standard_shape
        (3, 3, 4, 8)
        >>> kernel_layout("OIHW", (8, 4, 5), "layer").standard_shape
        (5, 4, 8)
    """
    axes = kernel_axes(name, len(filter_shape), layer)
    return Layout(str(name), filter_shape, axes)


def kernel_axes(name: object, rank: int, layer: str) -> tuple[int, ...]:
    """Return the places of the kernel's axes, inputs and outputs.

    Args:
        name: As in `kernel_layout`.
        rank: Number of axes of the weights.
        layer: Name of the layer, for the message.

    Returns:
        The places.

    Raises:
        ArgumentError: If the name is unknown for so many axes.
        ShapeError: If there are too few or too many.
    """
    if not 3 <= rank <= 5:
        msg = (
            f"{layer}: filter_shape has {rank} axes, expected 1 to 3"
            " of the kernel, and those of inputs and outputs"
        )
        raise ShapeError(msg)
    spatial = "DHW"[2 - rank :]
    orders = ["".join(order) for order in permutations((spatial, "I", "O"))]
    # The names for two dimensions also serve for one and three.
    plain = name if isinstance(name, str) else ""
    order = plain.replace("HW", spatial) if set(plain) == set("HWIO") else plain
    if order not in orders:
        names = dict.fromkeys(["HWIO", "OIHW", *orders])
        msg = (
            f"{layer}: layout is {shown(name)}, expected an order of kernel, inputs and"
            f" outputs: one of {', '.join(names)}"
        )
        raise ArgumentError(msg)
    return tuple(order.index(axis) for axis in f"{spatial}IO")
