"""The block of a bilinear layer."""

from dataclasses import dataclass, field
from typing import Any

from kfac_core.arguments.arrays import (
    as_sources,
    as_towers,
    backend_for,
    check_shape,
    statistics_dtype,
)
from kfac_core.backend import Backend
from kfac_core.damping import DampingType
from kfac_core.errors import ShapeError
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.parts import PartsFB, PartsState
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.bias import BiasFullFB
from kfac_core.fisher_blocks.fully_connected import FullyConnectedKFACBasicFB
from kfac_core.fisher_blocks.kronecker.three_factors import ThreeFactorsFB
from kfac_core.linalg.layouts import DenseLayout, Layout, dense_axes
from kfac_core.linalg.parameters import tensors_of
from kfac_core.typing import Array, Pair, Params, Scalar, Sources, Weights

_NAMES = ("inputs (first)", "inputs (second)")


@dataclass(frozen=True)
class BilinearKFACFB(PartsFB):
    """K-FAC of a bilinear layer, ``y[k] = x1' W[:, :, k] x2 + b[k]``.

    A case's gradient for the weights is ``outer(x1, x2, g)``. With ``r = x1 kron x2``
    taken as one input, the layer is a fully connected one. Its block is ``kron(E[r r'],
    E[g g'])``, which is exact where the block of a fully connected layer is. The first
    matrix has ``(first_size * second_size)^2`` entries. With ``factored_inputs`` the
    two inputs are taken to be independent as well. The block is then ``kron(E[x1 x1'],
    E[x2 x2'], E[g g'])``, which is exact for one case; and the bias, no longer a row of
    a factor, has a block of its own, a `BiasFullFB`.

    Attributes:
        first_size: Length of a row of the first input.
        second_size: Length of a row of the second input.
        output_size: Length of a row of outputs.
        has_bias: Whether the layer has a bias.
        factored_inputs: Whether the inputs have a factor each.
        layout: Order of the weights' axes: ``"in_out"``: ``[first, second, output]``;
            ``"out_in"``: ``[output, first, second]``, as PyTorch has them.
        damping_type: As in `KroneckerProductFB`; of three factors ``"pi"``, ``"off"``
            or ``"constant"``, see `kfac_core.fisher_blocks.kronecker.three_dampings`.

    Example:
        >>> import numpy as np
        >>> from kfac_core.typing import Pair
        >>> block = BilinearKFACFB(2, 1, 1, factored_inputs=True)
        >>> x1, x2 = np.asarray([[1.0, 2.0]]), np.asarray([[3.0]])
        >>> g = np.asarray([[1.0]])
        >>> state = block.init(like=g)
        >>> state = block.update_covs(state, Pair(x1, x2), g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[ 9., 18.],
               [18., 36.]])
    """

    first_size: int
    second_size: int
    output_size: int
    has_bias: bool = False
    factored_inputs: bool = False
    layout: DenseLayout = field(default="in_out", kw_only=True)
    damping_type: DampingType = field(default="pi", kw_only=True)

    def __post_init__(self) -> None:
        """Make the parts, once.

        Raises:
            ArgumentError: If the layout, or a way to damp, is unknown.
        """
        super().__post_init__()
        sizes = (self.first_size, self.second_size, self.output_size)
        axes = (0, 1, 2) if dense_axes(self.layout, self.label) == (0, 1) else (1, 2, 0)
        shape = sizes if axes == (0, 1, 2) else (sizes[2], *sizes[:2])
        object.__setattr__(self, "weight_layout", Layout(self.layout, shape, axes))
        served: dict[str, Any] = {
            "matpowers": self.matpowers,
            "cholesky": self.cholesky,
            "cholesky_inverse": self.cholesky_inverse,
            **self._averaging(),
            **self._inverting(),
        }
        damped: dict[str, Any] = {"damping_type": self.damping_type, **served}
        name, bias = f"{self.label} (weights)", None
        if self.factored_inputs:
            weights: FisherBlock[Any] = ThreeFactorsFB(*sizes, name=name, **damped)
            if self.has_bias:
                bias = BiasFullFB(sizes[2:], name=f"{self.label} (bias)", **served)
        else:
            weights = FullyConnectedKFACBasicFB(
                sizes[0] * sizes[1], sizes[2], self.has_bias, name=name, **damped
            )
        self._set_parts(weights=weights, bias=bias)

    def update_covs(
        self,
        state: PartsState,
        inputs: Pair | tuple[Pair, ...] | list[Pair],
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> PartsState:
        """Fold a batch into the statistics of all factors.

        Args:
            state: The state; left as it is.
            inputs: `kfac_core.typing.Pair` of ``[batch, first_size]`` and ``[batch,
                second_size]``; or a tuple of these (towers, weighted by their rows).
            outputs_grads: Gradients of the summed loss for the layer's outputs,
                ``[batch, output_size]``; or a tuple of these (towers); or a tuple of
                such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or a tuple of these
                (towers): zero for a case that does not count; None: one each. Inputs
                and gradients may have different weights: see
                `kfac_core.typing.RowWeights`.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, or there
                is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        counting: dict[str, Any] = {"weights": weights, "num_cases": num_cases}
        towers, sources = self._pairs(inputs), as_sources(outputs_grads)
        gradients = (g for source in sources for g in source)
        arrays = (x for pair in towers for x in pair)
        given = (self._own(state).ok, *arrays, *gradients)
        backend = backend_for(self.label, "state, inputs, outputs_grads", *given)
        self._check(backend, towers, sources)
        ema = (ema_decay, ema_weight)
        (_, part), *_ = self.parts
        if self.factored_inputs:
            first, second = zip(*towers, strict=True)
            data: tuple[Any, ...] = (first, second, sources)
        else:
            data = (tuple(outer_rows(backend, pair) for pair in towers), sources)
        new = [part.update_covs(state.parts[0], *data, *ema, **counting)]
        for (_, bias), own in zip(self.parts[1:], state.parts[1:], strict=True):
            new.append(bias.update_covs(own, sources, *ema, **counting))
        return whole(backend, state._replace(parts=tuple(new)), state, "cov_ok")

    def count_cases(self, inputs: Any) -> int:
        """Return the number of cases in all towers, each counted once."""
        towers = self._pairs(inputs)
        backend_for(self.label, "inputs", *(x for pair in towers for x in pair))
        for pair in towers:
            self._check_pair(pair)
        return sum(pair.first.shape[0] for pair in towers)

    def _pairs(self, inputs: Any) -> tuple[Pair, ...]:
        """Return the towers of inputs, each of them a pair."""
        towers = as_towers(inputs)
        for pair in towers:
            if not isinstance(pair, Pair):
                msg = (
                    f"{self.label}: inputs is a {type(pair).__name__}, expected a Pair"
                    " of the first and the second input (kfac_core.typing.Pair)"
                )
                raise ShapeError(msg)
        return towers

    def _check_pair(self, pair: Pair) -> None:
        """Check the shapes of two inputs."""
        sizes = (self.first_size, self.second_size)
        for x, size, name in zip(pair, sizes, _NAMES, strict=True):
            check_shape(x, ("batch", size), name, self.label)

    def _check(
        self,
        backend: Backend,
        towers: tuple[Pair, ...],
        sources: tuple[tuple[Any, ...], ...],
    ) -> None:
        """Check that inputs are real, and have the same cases as the gradients."""
        for pair in towers:
            self._check_pair(pair)
            for x, name in zip(pair, _NAMES, strict=True):
                statistics_dtype(backend, x, name, self.label)
        rows = [(pair.first.shape[0], pair.second.shape[0]) for pair in towers]
        for source in sources:
            for g in source:
                expected = ("batch", self.output_size)
                check_shape(g, expected, "outputs_grads", self.label)
            others = [g.shape[0] for g in source]
            if [(n, n) for n in others] != rows:
                msg = (
                    f"{self.label}: inputs have {rows} rows (a pair a tower) and"
                    f" outputs_grads {others}; give all for the same cases"
                )
                raise ShapeError(msg)

    def _split(self, backend: Backend, vector: Params) -> tuple[Params, ...]:
        tensors = tensors_of(vector)
        shapes = [tuple(tensor.shape) for tensor in tensors]
        layout = self.weight_layout
        assert layout is not None  # set when the spec was made
        wanted = [layout.shape, (self.output_size,)][: 1 + self.has_bias]
        if shapes != wanted:
            msg = (
                f"{self.label}: vector has shapes {shapes}, expected {wanted}, the"
                f" weights in the layout {self.layout!r}"
            )
            raise ShapeError(msg)
        standard = backend.xp.permute_dims(tensors[0], layout.axes)
        matrix = backend.xp.reshape(standard, (-1, self.output_size))
        if not self.has_bias:
            return (matrix,)
        bias = tensors[1]
        return (matrix, bias) if self.factored_inputs else ((matrix, bias),)

    def _joined(
        self, backend: Backend, products: tuple[Params, ...], vector: Params
    ) -> Params:
        matrix, *bias = (x for product in products for x in tensors_of(product))
        layout = self.weight_layout
        assert layout is not None  # set when the spec was made
        standard = backend.xp.reshape(matrix, layout.standard_shape)
        weights: Array = backend.xp.permute_dims(standard, layout.inverse)
        return (weights, *bias) if isinstance(vector, tuple | list) else weights

    def _in_order(self, backend: Backend, dense: Array) -> Array:
        return self._laid_out(backend, dense)


def outer_rows(backend: Backend, pair: Pair) -> Array:
    """Return ``x1 kron x2`` of each case, ``[batch, first_size * second_size]``."""
    first, second = pair
    product = first[:, :, None] * second[:, None, :]
    size = first.shape[1] * second.shape[1]
    rows: Array = backend.xp.reshape(product, (first.shape[0], size))
    return rows
