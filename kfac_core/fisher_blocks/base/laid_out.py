"""`LaidOut`: what a block knows of how its layer's weights lie."""

from dataclasses import dataclass, field

from kfac_core.backend import Backend
from kfac_core.linalg.layouts import Layout, dense_layout, kernel_layout
from kfac_core.typing import Array


@dataclass(frozen=True, kw_only=True)
class LaidOut:
    """Base of the blocks: their vectors and their dense forms are in a layout.

    A block whose weights may lie in several ways has a field ``layout``, and sets
    `weight_layout` from it.

    Attributes:
        weight_layout: How the weights lie; None: in the library's order, inputs before
            outputs, with any leading axes.
    """

    weight_layout: Layout | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def _set_dense_layout(
        self, layout: object, input_size: int, output_size: int, label: str
    ) -> None:
        """Set how a matrix of weights lies; errors as in `dense_layout`."""
        found = dense_layout(layout, input_size, output_size, label)
        object.__setattr__(self, "weight_layout", found)

    def _set_kernel_layout(
        self, layout: object, filter_shape: tuple[int, ...], label: str
    ) -> tuple[int, ...]:
        """Set how a kernel lies, and return its shape in our order."""
        found = kernel_layout(layout, filter_shape, label)
        object.__setattr__(self, "weight_layout", found)
        return found.standard_shape

    def _laid_out(self, backend: Backend, dense: Array) -> Array:
        """Return a matrix, given in the library's order, in the order of the layout."""
        layout = self.weight_layout
        return dense if layout is None else layout.of_matrix(backend, dense)
