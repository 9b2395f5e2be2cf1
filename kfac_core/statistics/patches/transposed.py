"""Where a transposed convolution looks, seen from its inputs and from its outputs.

A transposed convolution is the adjoint of a convolution. Along each axis, the input at
``u`` adds ``x[u] W[o]`` to the output at ``s u + d o - p``, with the stride ``s``, the
dilation ``d``, and ``p`` outputs cut off in front. Seen from an input, tap ``o``
touches one output, and the gradient is a sum over input locations,

    dW[o] = sum_u x[u]' g[s u + d o - p],

in which ``g[s u + d o - p]``, over all taps ``o``, is the *patch of output gradients*
at ``u``: the patch that the adjoint convolution sees there. Seen from an output, the
layer is a convolution of stride 1 of the *spread* inputs, which have ``s - 1`` zeros
between neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kfac_core.arguments.arrays import check_shape
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.statistics.patches.padding import is_width, padded
from kfac_core.statistics.patches.window import Window
from kfac_core.typing import Array


@dataclass(frozen=True)
class TransposedWindow:
    """Where a transposed convolution of 1, 2 or 3 spatial axes looks.

    Attributes:
        adjoint: The convolution from the layer's outputs to its inputs.
        output_padding: Number of outputs after the last one that padding leaves, for
            each spatial axis; None: as the data say.
        mirrored: Whether the kernel runs backwards, as in `jax.lax.conv_transpose`
            with ``transpose_kernel=False``: tap ``o`` stands for the last but ``o``.
    """

    adjoint: Window
    output_padding: tuple[int, ...] | None = None
    mirrored: bool = False

    @classmethod
    def of(
        cls,
        adjoint: Window,
        output_padding: Sequence[int] | int | None,
        layer: str,
        *,
        mirrored: bool = False,
    ) -> "TransposedWindow":
        """Make a window from the forms of an output padding that users write.

        Args:
            adjoint: The convolution from the layer's outputs to its inputs.
            output_padding: One for each spatial axis, one for all, or None.
            layer: Name of the layer, for the message.
            mirrored: Whether the kernel runs backwards.

        Returns:
            The window.

        Raises:
            ArgumentError: If an output padding comes with padding by name, or is not
                below stride or dilation.
        """
        extra: tuple[int, ...] | None = None
        if output_padding is not None:
            steps = zip(adjoint.strides, adjoint.dilations, strict=True)
            limits = tuple(map(max, steps))
            is_list = isinstance(output_padding, tuple | list)
            widths: Any = output_padding if is_list else (output_padding,) * len(limits)
            fits = len(widths) == len(limits) and all(
                is_width(width) and int(width) < limit
                for width, limit in zip(widths, limits, strict=True)
            )
            if not fits or adjoint.padding == "SAME":
                msg = (
                    f"{layer}: output_padding is {shown(output_padding)}, expected"
                    f" None, or integers from 0, below {limits} (the larger of stride"
                    " and dilation), and none with padding 'SAME'"
                )
                raise ArgumentError(msg)
            extra = tuple(map(int, widths))
        return cls(adjoint, extra, mirrored)

    def check(
        self, x: Array, g: Array, in_channels: int, out_channels: int, layer: str
    ) -> None:
        """Check the shapes of inputs and of output gradients.

        Args:
            x: ``[batch, ..spatial.., in_channels]``, or channels first.
            g: ``[batch, ..locations.., out_channels]``, or channels first.
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            layer: Name of the layer, for the message.

        Raises:
            ShapeError: If rank or channels differ, or the number of outputs does not
                fit the inputs.
        """
        adjoint = self.adjoint
        for array, channels, name in (
            (x, in_channels, "inputs"),
            (g, out_channels, "outputs_grads"),
        ):
            axes: tuple[int | str, ...] = ("size",) * adjoint.spatial_rank
            shape = (*axes, channels) if adjoint.channels_last else (channels, *axes)
            check_shape(array, ("batch", *shape), name, layer)
        inputs, outputs = adjoint.spatial_of(x), adjoint.spatial_of(g)
        ranges = [*map(self.sizes, range(adjoint.spatial_rank), inputs)]
        # A compiler may not know a size, and then not look for it in a range.
        pairs = zip(outputs, ranges, strict=True)
        if any(not sizes.start <= n < sizes.stop for n, sizes in pairs):
            wanted = ", ".join(
                str(r.start) if len(r) == 1 else f"{r.start} to {r.stop - 1}"
                for r in ranges
            )
            msg = (
                f"{layer}: outputs_grads have the spatial sizes {outputs}, expected"
                f" [{wanted}] of inputs with {inputs}; check strides, padding and"
                " output_padding"
            )
            raise ShapeError(msg)

    def sizes(self, axis: int, size: int) -> range:
        """Return the numbers of outputs that `size` inputs can have along an axis."""
        adjoint = self.adjoint
        s, d, k = (
            values[axis]
            for values in (adjoint.strides, adjoint.dilations, adjoint.kernel)
        )
        if size < 1:
            return range(0)
        if adjoint.padding == "SAME":
            # There are ceil(outputs / stride) inputs.
            return range((size - 1) * s + 1, size * s + 1)
        before, after = adjoint.pads((size,) * adjoint.spatial_rank)[axis]
        first = (size - 1) * s + d * (k - 1) + 1 - before - after
        if self.output_padding is not None:
            first += self.output_padding[axis]
            return range(first, first + 1)
        return range(max(first, 1), first + max(s, d))


def output_patches_image(
    backend: Backend, g: Array, window: TransposedWindow, inputs: Sequence[int]
) -> tuple[Array, Window]:
    """Return an image of output gradients that has one patch for each input.

    Args:
        backend: Backend of `g`.
        g: Gradients, ``[batch, ..locations.., channels]``, or channels first as the
            window says.
        window: Where the transposed convolution looks.
        inputs: Spatial sizes of its inputs.

    Returns:
        ``[batch, ..spatial.., channels]``, and the convolution, without padding, that
        has one location for each input location.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> from kfac_core.statistics.patches.second_moment import extract_patches
        >>> g = np.arange(1.0, 6.0).reshape(1, 5, 1)
        >>> up = TransposedWindow(Window((3,), (2,), (1,), "VALID"))
        >>> image, seen = output_patches_image(backend_of(g), g, up, (2,))
        >>> extract_patches(backend_of(g), image, seen)[0, :, :, 0]
        array([[1., 2., 3.],
               [3., 4., 5.]])
    """
    adjoint = window.adjoint
    image = adjoint.to_channels_last(backend, g)
    pads = adjoint.pads(image.shape[1:-1])
    for axis, (n, (before, _), k, s, d) in enumerate(
        zip(
            inputs,
            pads,
            adjoint.kernel,
            adjoint.strides,
            adjoint.dilations,
            strict=True,
        ),
        start=1,
    ):
        image = _placed(backend, image, axis, before, (n - 1) * s + d * (k - 1) + 1)
    if window.mirrored:
        image = _turned(backend, image)
    return image, replace(adjoint, padding="VALID", channels_last=True)


def spread_inputs_image(
    backend: Backend, x: Array, window: TransposedWindow, outputs: Sequence[int]
) -> tuple[Array, Window]:
    """Return an image of spread inputs that has one patch for each output.

    Args:
        backend: Backend of `x`.
        x: Inputs, ``[batch, ..spatial.., channels]``, or channels first as the window
            says.
        window: Where the transposed convolution looks.
        outputs: Spatial sizes of its outputs.

    Returns:
        ``[batch, ..spatial.., channels]``, and the convolution, of stride 1 and without
        padding, that has one location for each output location. Locations are in the
        order of the outputs if the kernel is mirrored, and otherwise in reverse along
        every spatial axis.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> from kfac_core.statistics.patches.second_moment import extract_patches
        >>> x = np.asarray([1.0, 2.0]).reshape(1, 2, 1)
        >>> up = TransposedWindow(Window((3,), (2,), (1,), "VALID"))
        >>> image, seen = spread_inputs_image(backend_of(x), x, up, (5,))
        >>> extract_patches(backend_of(x), image, seen)[0, ::-1, :, 0]
        array([[1., 0., 0.],
               [0., 1., 0.],
               [2., 0., 1.],
               [0., 2., 0.],
               [0., 0., 2.]])
    """
    adjoint = window.adjoint
    image = adjoint.to_channels_last(backend, x)
    pads = adjoint.pads(tuple(outputs))
    for axis, (n, (before, _), k, s, d) in enumerate(
        zip(
            outputs,
            pads,
            adjoint.kernel,
            adjoint.strides,
            adjoint.dilations,
            strict=True,
        ),
        start=1,
    ):
        spread = _spread(backend, image, axis, s)
        reach = d * (k - 1)
        image = _placed(backend, spread, axis, reach - before, n + reach)
    if not window.mirrored:
        image = _turned(backend, image)
    ones = (1,) * adjoint.spatial_rank
    return image, replace(adjoint, strides=ones, padding="VALID", channels_last=True)


def _placed(backend: Backend, x: Array, axis: int, before: int, size: int) -> Array:
    """Return `x` moved back along an axis, cut or filled with zeros to a size."""
    if before < 0:
        before, x = 0, _from(x, axis, -before, x.shape[axis])
    x = _from(x, axis, 0, max(size - before, 0))
    x = padded(backend, x, axis, before, max(size - before - x.shape[axis], 0))
    return _from(x, axis, 0, size)


def _from(x: Array, axis: int, start: int, stop: int) -> Array:
    """Return a slice along an axis."""
    size = x.shape[axis]
    start, stop = min(start, size), min(stop, size)
    if start == 0 and stop == size:
        return x
    index = (slice(None),) * axis + (slice(start, stop),)
    return x[(*index, *(slice(None),) * (x.ndim - axis - 1))]


def _spread(backend: Backend, x: Array, axis: int, stride: int) -> Array:
    """Return `x` with ``stride - 1`` zeros between neighbours along an axis."""
    if stride == 1:
        return x
    shape = x.shape
    cells = backend.xp.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    cells = padded(backend, cells, axis + 1, 0, stride - 1)
    size = shape[axis] * stride
    image = backend.xp.reshape(cells, (*shape[:axis], size, *shape[axis + 1 :]))
    return _from(image, axis, 0, size - stride + 1)


def _turned(backend: Backend, x: Array) -> Array:
    """Return images reversed along every spatial axis."""
    flipped: Array = backend.xp.flip(x, axis=tuple(range(1, x.ndim - 1)))
    return flipped
