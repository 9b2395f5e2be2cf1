"""The block of a parameter that unlike layers share."""

from dataclasses import dataclass, field
from typing import Any

from kfac_core.arguments.arrays import as_sources, backend_for
from kfac_core.backend import Backend
from kfac_core.damping import DampingType
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.parts import PartsFB, PartsState
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.bias import BiasDiagonalFB, BiasFullFB
from kfac_core.fisher_blocks.tied.product import TiedMatrixFB, UseKind, use_kinds
from kfac_core.fisher_blocks.tied.rows import (
    weighed_gradients,
    weights_by_place,
)
from kfac_core.linalg.parameters import tensors_of
from kfac_core.linalg.pooling import Pooling
from kfac_core.registry import backend_of
from kfac_core.rows.uses import MultiSources, MultiTowers, arrays_of
from kfac_core.rows.weights import sides
from kfac_core.statistics.ids import RepeatedIds
from kfac_core.typing import Array, Params, Scalar, Uses, Weights


@dataclass(frozen=True)
class TiedWeightsKFACFB(PartsFB):
    """K-FAC of a matrix that unlike layers share, as embedding and decoder do.

    A case's gradient is the sum of the gradients of all uses. Uses are taken to be
    uncorrelated, and so are positions: ``F = sum_k c_k kron(A_k, G_k)`` over uses
    ``k``, each with ``c_k`` positions. ``A_k`` acts on the matrix's rows, and ``G_k``
    on its columns. One Kronecker product stands for the sum; see
    `kfac_core.linalg.pooling`. With a single use it is the product of that use.

    | use | computes | rows see | columns see |
    |---|---|---|---|
    | ``"embedding"`` | ``V[ids]`` | ids | gradients |
    | ``"fully_connected"`` | ``x V`` | inputs | gradients |
    | ``"transposed"`` | ``x V'`` | gradients | inputs |

    Attributes:
        input_size: Number of rows of the matrix: the size of the vocabulary.
        output_size: Number of columns of the matrix: the length of an embedding.
        uses: For each use its kind, in the order of the data.
        has_bias: Whether the uses ``x V' + b`` have a bias ``[input_size]``. The bias
            has an exact block of its own, taken to be uncorrelated with the matrix:
            whole, or diagonal where the side of the rows is diagonal.
        pooling: ``"marginal"``, ``"nearest"`` or ``"mean"``.
        diagonal_rows: Whether to keep the diagonal alone on the side of the rows; None:
            yes if a use is an embedding, since ids have a diagonal factor.
        diagonal_columns: Whether to keep the diagonal alone on the side of the columns.
        repeated_ids: How an id that is repeated within a position counts; see
            `kfac_core.fisher_factors.EmbeddingInputKroneckerFactor`.
        damping_type: As in `KroneckerProductFB`, of the matrix.
        normalize_damping_power: As in `KroneckerProductFB`.

    Example:
        >>> import numpy as np
        >>> block = TiedWeightsKFACFB(3, 2, ("embedding", "transposed"))
        >>> ids, h = np.asarray([0, 2]), np.asarray([[1.0, 0.0], [1.0, 1.0]])
        >>> of_rows = np.asarray([[1.0, -1.0], [0.5, 0.0]])
        >>> of_logits = np.asarray([[0.5, -0.5, 0.0], [0.0, 1.0, -1.0]])
        >>> inputs, gradients = Uses((ids, h)), Uses((of_rows, of_logits))
        >>> state = block.init(like=h)
        >>> state = block.update_covs(state, inputs, gradients, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=0.1)
        >>> block.multiply_inverse(state, np.ones((3, 2))).shape
        (3, 2)
    """

    input_size: int
    output_size: int
    uses: tuple[UseKind, ...]
    has_bias: bool = False
    pooling: Pooling = "marginal"
    diagonal_rows: bool | None = None
    diagonal_columns: bool = False
    repeated_ids: RepeatedIds = "n_hot"
    damping_type: DampingType = field(default="pi", kw_only=True)
    normalize_damping_power: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        """Make the parts, once.

        Raises:
            ArgumentError: If a use or an option is unknown, or there is a bias and no
                use that can have one.
        """
        super().__post_init__()
        object.__setattr__(self, "uses", use_kinds(self.uses, self.label))
        diagonal = self.diagonal_rows
        if diagonal is None:
            diagonal = "embedding" in self.uses
        if self.has_bias and "transposed" not in self.uses:
            msg = (
                f"{self.label}: has_bias is True, and the uses are {self.uses}: a bias"
                " is that of uses 'transposed'"
            )
            raise ArgumentError(msg)
        served: dict[str, Any] = {
            "matpowers": self.matpowers,
            "cholesky": self.cholesky,
            "cholesky_inverse": self.cholesky_inverse,
            **self._averaging(),
            **self._inverting(),
        }
        weights = TiedMatrixFB(
            self.uses,
            self.input_size,
            self.output_size,
            self.pooling,
            diagonal,
            self.diagonal_columns,
            self.repeated_ids,
            damping_type=self.damping_type,
            normalize_damping_power=self.normalize_damping_power,
            name=f"{self.label} (weights)",
            **served,
        )
        bias: FisherBlock[Any] | None = None
        if self.has_bias:
            make = BiasDiagonalFB if diagonal else BiasFullFB
            bias = make((self.input_size,), name=f"{self.label} (bias)", **served)
        self._set_parts(weights=weights, bias=bias)

    def update_covs(
        self,
        state: PartsState,
        inputs: MultiTowers,
        outputs_grads: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> PartsState:
        """Fold a batch into the statistics of all uses.

        Args:
            state: The state; left as it is.
            inputs: `kfac_core.typing.Uses` of the inputs of each use, in the order of
                `uses`. An embedding takes ids ``[batch, ...]``, or ``[batch, ..., m]``
                for ``m`` ids a position; the others take rows ``[batch, ...,
                features]``. Or a tuple of these (towers, weighted by their rows).
            outputs_grads: Gradients of the summed loss for the outputs of each use,
                ``[batch, ..., features]``, as `Uses`; the axes of positions, in
                between, are those of its inputs. Or a tuple of these (towers); or a
                tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, at all its uses and
                positions; or `Uses` of one array for each use, ``[batch]`` or ``[batch,
                ...]`` with the axes of positions; or a tuple of such (towers). Zero for
                what does not count; None: one each. A position of weight ``w`` adds
                ``w`` times to a case's gradient for the bias. Inputs and gradients may
                have different weights: see `kfac_core.typing.RowWeights`.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If there are not as many arrays as uses, one has another shape,
                towers or cases do not match, or there is no case.
            DTypeError: If ids are not integers, or other data not real.
            NotFiniteError: If data hold NaN or infinity. Under a trace the state is
                kept, with ``ok`` False.
            ArgumentError: If an id, the decay, a weight or `num_cases` is out of range.
        """
        ema = (ema_decay, ema_weight)
        (_, matrix), *others = self.parts
        first, *rest = self._own(state).parts
        new = [
            matrix.update_covs(
                first,
                inputs,
                outputs_grads,
                *ema,
                weights=weights,
                num_cases=num_cases,
            )
        ]
        for (_, bias), part in zip(others, rest, strict=True):
            own = self._of_bias(outputs_grads, weights, first.scale)
            new.append(bias.update_covs(part, own, *ema, num_cases=num_cases))
        return whole(
            backend_of(state.ok), state._replace(parts=tuple(new)), state, "cov_ok"
        )

    def _of_bias(
        self, outputs_grads: MultiSources, weights: Weights | None, like: Array
    ) -> Any:
        """Return the gradients of the uses that add the bias, times their weights."""
        places = [k for k, use in enumerate(self.uses) if use == "transposed"]
        sources = as_sources(outputs_grads)
        _, weights = sides(weights)
        if weights is None:
            return tuple(
                tuple(
                    Uses(tuple(arrays_of(tower)[k] for k in places)) for tower in source
                )
                for source in sources
            )
        backend = backend_for(
            self.label, "outputs_grads", like, *arrays_of(sources[0][0])
        )
        shapes = [
            [tuple(g.shape[:-1]) for g in arrays_of(tower)] for tower in sources[0]
        ]
        known = weights_by_place(backend, weights, shapes, like, self.label)

        def weighed(tower: Any, place: int) -> Uses:
            uses = arrays_of(tower)
            return Uses(
                tuple(
                    weighed_gradients(
                        backend, uses[k], known[k].gradients[place], like.dtype
                    )
                    for k in places
                )
            )

        return tuple(
            tuple(weighed(tower, place) for place, tower in enumerate(source))
            for source in sources
        )

    def _split(self, backend: Backend, vector: Params) -> tuple[Params, ...]:
        tensors = tensors_of(vector)
        shapes = [tuple(tensor.shape) for tensor in tensors]
        expected = [(self.input_size, self.output_size), (self.input_size,)]
        if shapes != expected[: 1 + self.has_bias]:
            msg = (
                f"{self.label}: vector has shapes {shapes}, expected"
                f" {expected[: 1 + self.has_bias]}"
            )
            raise ShapeError(msg)
        return tensors

    def _joined(
        self, backend: Backend, products: tuple[Params, ...], vector: Params
    ) -> Params:
        tensors: tuple[Array, ...] = tuple(
            tensor for product in products for tensor in tensors_of(product)
        )
        return tensors if isinstance(vector, tuple | list) else tensors[0]
