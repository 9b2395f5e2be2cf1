"""Dense curvature of any model, from nothing but products with its Jacobian.

A `kfac_core.linearization.Linearization` tells no more of a model than K-FAC needs.
That is enough to compute its curvature whole, row by row: for layers that share
weights, attention, residual sums, norms, and for models that an adapter captured. It
takes a backward pass for each column of the losses' factors, or for each case, and so
it is for small models.

Parameters have the order of the collection's layers: the weights of a layer row-major,
as they lie, then its bias, as in `FisherBlock.full_fisher_block`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

from kfac_core.arguments.options import check_word
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.estimator import EstimatorState
from kfac_core.estimator.block_diagonal import BlockDiagonalMatrix
from kfac_core.layer_collection import LayerCollection
from kfac_core.layer_collection.parts import with_parts
from kfac_core.linearization import Linearization, NamedLossInputs
from kfac_core.linearization.checked import check_is_collection, checked
from kfac_core.loss_functions.positions import input_arrays, like_inputs
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.reference.checked import check_class
from kfac_core.registered_losses import (
    batch_size_of,
    half_gradient,
    loss_gradient,
    losses_at,
    target,
)
from kfac_core.registry import backend_of
from kfac_core.typing import Array

Curvature = Literal["fisher", "ggn", "empirical"]


class DenseFisher(NamedTuple):
    """A dense matrix, and where the layers lie in it.

    Attributes:
        matrix: ``[n, n]``, symmetric.
        layers: Names of the layers, in order.
        sizes: Number of parameters of each, which sum to ``n``.

    Example:
        >>> import numpy as np
        >>> fisher = DenseFisher(np.diag([1.0, 2.0, 3.0]), ("first", "second"), (2, 1))
        >>> fisher.block("second")
        array([[3.]])
    """

    matrix: Array
    layers: tuple[str, ...]
    sizes: tuple[int, ...]

    def block(self, layer: str) -> Array:
        """Return the block of one layer on the diagonal.

        Args:
            layer: Its name.

        Raises:
            ArgumentError: If there is no such layer.
        """
        if layer not in self.layers:
            msg = f"DenseFisher: layer is {layer!r}, expected one of {self.layers}"
            raise ArgumentError(msg)
        place = self.layers.index(layer)
        start = sum(self.sizes[:place])
        own = slice(start, start + self.sizes[place])
        found: Array = self.matrix[own, own]
        return found


def dense_fisher(
    collection: LayerCollection,
    linearization: Linearization,
    *,
    kind: Curvature = "fisher",
) -> DenseFisher:
    """Return the curvature of the mean loss, without approximation.

    Args:
        collection: The layers and losses.
        linearization: The model at its parameters and a batch.
        kind: ``"fisher"``: targets are drawn from the model, exactly; ``"ggn"``: the
            generalised Gauss-Newton matrix; ``"empirical"``: the second moment of the
            gradients at the targets of the batch.

    Returns:
        The matrix, with the layers in the order of the collection.

    Raises:
        ArgumentError: If `kind` is unknown, or targets are missing.
        ShapeError: If a loss has more rows than cases, and `kind` is ``"empirical"``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(1, 1),)))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0))
        >>> params = {"dense_0/weights": np.ones((1, 1)), "dense_0/bias": np.zeros(1)}
        >>> linearization = model.linearize(params, Batch(np.asarray([[1.0], [3.0]])))
        >>> dense_fisher(collection, linearization).matrix
        array([[5., 2.],
               [2., 1.]])
    """
    check_is_collection(collection, "collection", "dense_fisher")
    check_word(kind, get_args(Curvature), "kind", "dense_fisher")
    known = checked(collection, linearization)
    count = batch_size_of(known)
    if kind == "empirical":
        at_losses = {
            at.site: half_gradient(at, target(known, at))
            for at in losses_at(collection, known)
        }
        rows = case_gradients(collection, known, at_losses)
    else:
        rows = _stacked(collection, _factor_rows(collection, known, kind))
    matrix = backend_of(rows).gram(rows) / count
    return DenseFisher(matrix, *_layers(collection))


def case_gradients(
    collection: LayerCollection,
    linearization: Linearization,
    vectors: NamedLossInputs | None = None,
) -> Array:
    """Return the gradient of each case's loss, as rows of a matrix.

    Args:
        collection: The layers and losses.
        linearization: The model at its parameters and a batch.
        vectors: Gradients for the inputs of the losses, by loss site, a row for each
            case; None: those of the losses at the targets of the batch.

    Returns:
        ``[batch, n]``.

    Raises:
        ShapeError: If a loss has more rows than cases.
    """
    check_is_collection(collection, "collection", "case_gradients")
    known = checked(collection, linearization)
    given = loss_gradient(collection, known) if vectors is None else vectors
    count = batch_size_of(known)
    for site, vector in given.items():
        rows = input_arrays(vector)[0].shape[0]
        if rows != count:
            msg = (
                f"case_gradients: the vector at the loss site {site!r} has {rows} rows,"
                f" expected {count}, one for each case; let the model give its outputs"
                " as [batch, positions, ...]"
            )
            raise ShapeError(msg)
    return _stacked(
        collection,
        (known.param_gradients(_only(given, case)) for case in range(count)),
    )


def dense_blocks(estimator: BlockDiagonalMatrix, state: EstimatorState) -> DenseFisher:
    """Return an estimator's matrix, dense: the blocks of all layers, and zeros.

    Args:
        estimator: A `kfac_core.FisherEstimator`.
        state: Its state.

    Returns:
        The undamped matrix, in the order of `dense_fisher`.
    """
    check_class(estimator, BlockDiagonalMatrix, "estimator", "dense_blocks")
    backend = estimator.check_state(state)
    xp = backend.xp
    blocks = [
        layer.block.full_fisher_block(state.blocks[layer.name])
        for layer in estimator.layers
    ]
    total, start, rows = sum(block.shape[0] for block in blocks), 0, []
    for block in blocks:
        size, device = block.shape[0], backend.creation_device(block)
        before, after = (
            xp.zeros((size, width), dtype=block.dtype, device=device)
            for width in (start, total - start - size)
        )
        rows.append(xp.concat([before, block, after], axis=1))
        start += size
    names = tuple(layer.name for layer in estimator.layers)
    sizes = tuple(block.shape[0] for block in blocks)
    return DenseFisher(xp.concat(rows), names, sizes)


def _factor_rows(
    collection: LayerCollection, linearization: Any, kind: Curvature
) -> Iterator[Mapping[str, Array]]:
    """Yield the rows of ``B' J``, for each unit of what the losses' factors take."""
    computer = CurvatureMatrixVectorProductComputer(collection)
    if kind == "ggn":
        shapes = computer.ggn_factor_inner_shapes(linearization)
        multiply = computer.multiply_ggn_factor
    else:
        shapes = computer.fisher_factor_inner_shapes(linearization)
        multiply = computer.multiply_fisher_factor
    for at in losses_at(collection, linearization):
        like = input_arrays(at.inputs)[0]
        backend = backend_of(like)
        xp, device = backend.xp, backend.creation_device(like)
        zeros = {
            site: xp.zeros(shape, dtype=like.dtype, device=device)
            for site, shape in shapes.items()
        }
        size = math.prod(shapes[at.site])
        places = xp.arange(size, device=device)
        for k in range(size):
            unit = xp.astype(xp.equal(places, xp.full_like(places, k)), like.dtype)
            inner = zeros | {at.site: xp.reshape(unit, shapes[at.site])}
            yield multiply(linearization, inner)


def _only(vectors: NamedLossInputs, case: int) -> NamedLossInputs:
    """Return vectors with zeros in all rows but one."""

    def row(x: Array) -> Array:
        backend = backend_of(x)
        places = backend.xp.arange(x.shape[0], device=backend.creation_device(x))
        own = backend.xp.equal(places, backend.xp.full_like(places, case))
        own = backend.xp.reshape(own, (-1, *(1 for _ in x.shape[1:])))
        found: Array = backend.xp.where(own, x, backend.xp.zeros_like(x))
        return found

    return {
        site: like_inputs(vector, [row(x) for x in input_arrays(vector)])
        for site, vector in vectors.items()
    }


def _stacked(
    collection: LayerCollection, gradients: Iterator[Mapping[str, Array]]
) -> Array:
    """Return gradients by name as rows, in the order of the layers."""
    rows = []
    for named in gradients:
        known = with_parts(collection.parts, named)
        tensors = [known[name] for layer in collection.layers for name in layer.params]
        xp = backend_of(*tensors).xp
        rows.append(xp.concat([xp.reshape(tensor, (-1,)) for tensor in tensors]))
    stacked: Array = backend_of(rows[0]).xp.stack(rows)
    return stacked


def _layers(collection: LayerCollection) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and sizes of the layers."""
    shapes = collection.shapes
    names = tuple(layer.name for layer in collection.layers)
    sizes = tuple(
        sum(math.prod(shapes[name]) for name in layer.params)
        for layer in collection.layers
    )
    return names, sizes
