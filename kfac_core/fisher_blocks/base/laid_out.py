"""`LaidOut`: what a block knows of how its layer's parameters lie."""

from dataclasses import dataclass, field

from kfac_core.backend import Backend
from kfac_core.linalg.layouts import Layout, dense_layout
from kfac_core.linalg.parameters import (
    params_to_vector,
    tensors_of,
    vector_to_params,
)
from kfac_core.typing import Array, Params


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

    def _set_layout(self, layout: Layout) -> None:
        """Set how the weights lie."""
        object.__setattr__(self, "weight_layout", layout)

    def _laid_out(self, backend: Backend, dense: Array) -> Array:
        """Return a matrix, given in the library's order, in the order of the layout."""
        layout = self.weight_layout
        return dense if layout is None else layout.of_matrix(backend, dense)

    def to_tensors(self, backend: Backend, vector: Params) -> tuple[Array, ...]:
        """Return a vector as `FisherBlock.spectrum` has it: a tensor for each part.

        Args:
            backend: Backend of the vector.
            vector: As in `FisherBlock.multiply_matpower`.

        Returns:
            For each part ``[n_1, .., n_k]``, for groups with an axis in front.

        Raises:
            ShapeError: If the vector has another size.
        """
        return (params_to_vector(backend, vector),)

    def from_tensors(
        self, backend: Backend, tensors: tuple[Array, ...], like: Params
    ) -> Params:
        """Return a vector in the form and the dtypes of `like`; see `to_tensors`."""
        flat = backend.xp.reshape(tensors[0], (-1,))
        params = vector_to_params(backend, flat, like)
        return self._in_dtypes_of(backend, params, like)

    def _in_dtypes_of(
        self, backend: Backend, product: Params, vector: Params
    ) -> Params:
        """Return a product in the dtypes of the vector that was multiplied."""
        pairs = zip(tensors_of(product), tensors_of(vector), strict=True)
        cast = tuple(backend.xp.astype(p, v.dtype) for p, v in pairs)
        return cast if isinstance(vector, tuple | list) else cast[0]
