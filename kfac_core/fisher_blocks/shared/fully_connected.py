"""Blocks of layers that every case uses several times: shared layers."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.side import form_of_side
from kfac_core.fisher_factors import (
    FullyConnectedMultiKF,
)
from kfac_core.linalg.layouts import DenseLayout
from kfac_core.rows.counts import counted, weights_by_use
from kfac_core.rows.uses import (
    MultiSources,
    MultiTowers,
    arrays_of,
    in_parts,
)
from kfac_core.rows.weights import (
    UseWeights,
    both_known,
    in_rows,
    sides,
    split_rows,
)
from kfac_core.typing import Array, RowWeights, Scalar, Uses, Weights


@dataclass(frozen=True)
class MultiUseFB(KroneckerProductFB):
    """Abstract base of the Kronecker blocks of shared layers without locations.

    ``c`` is the number of uses ``T``. Batches may have different ``T``; ``c`` is then
    their weighted mean, averaged as the statistics are.

    Attributes:
        batch_first: Whether cases come before uses; see `kfac_core.rows.uses`.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0], [3.0]]), np.asarray([[1.0], [1.0]])
        >>> block = FullyConnectedMultiIndepFB(1, 1, num_uses=2)
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)  # 5, were the uses two cases
        array([[10.]])
    """

    is_repeated: ClassVar[bool] = True

    @property
    @abstractmethod
    def num_uses(self) -> int | None:
        """``T``, or None where the data say it: a field of each block."""

    batch_first: bool = field(default=False, kw_only=True)

    def update_covs(
        self,
        state: KroneckerState,
        inputs: MultiTowers,
        outputs_grads: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> KroneckerState:
        """Fold a batch into the statistics of both factors.

        Args:
            state: The state; left as it is.
            inputs: One tower, in a form of `kfac_core.rows.uses`: for each use of each
                case a row, or for an embedding an id or a row of ids; or a tuple of
                these (towers, weighted by their rows).
            outputs_grads: Gradients of the summed loss for the outputs of all uses, a
                row for each case and use, in any of the forms of `inputs`; or a tuple
                of these (towers); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[N]``, or each use of each, ``[T,
                N]``, ``[T * N]`` or `Uses`; or a tuple of these (towers): zero for a
                case that does not count; None: one each. Inputs and gradients may have
                different weights: see `kfac_core.typing.RowWeights`.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, or there
                is no case.
            DTypeError: If an array has another kind of numbers, or is wider than the
                state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the number of uses is not known, not `num_uses`, or not
                the same for all data; or if an id, the decay, a weight or `num_cases`
                is out of range.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        all_data = (towers, *sources)
        arrays = (x for data in all_data for tower in data for x in arrays_of(tower))
        backend = backend_for(
            self.label, "state, inputs, outputs_grads", self._own(state).scale, *arrays
        )
        parts, rows, uses = self._paired(backend, towers, sources)
        shapes, like = [(number,) for number in rows], state.scale
        row_weights = RowWeights(
            *(
                weights_by_use(
                    backend,
                    own,
                    shapes,
                    uses,
                    like,
                    self.label,
                    batch_first=self.batch_first,
                )
                for own in sides(weights)
            )
        )
        if (known := self._known(backend, towers, parts, uses, like)) is not None:
            row_weights = both_known(row_weights, known)
        counts = counted(
            backend, row_weights, shapes, uses, num_cases, like, self.label
        )
        of_inputs: Any = towers
        if not isinstance(self.input_factor, FullyConnectedMultiKF):
            of_inputs = parts
            own = self._as_cases(backend, towers, parts, counts.of_inputs, uses)
            counts = counts._replace(of_inputs=own)
        data = (of_inputs, sources)
        return self._fold(backend, state, data, counts, ema_decay, ema_weight)

    def count_cases(self, inputs: MultiTowers) -> int:
        """Return the number of cases in all towers, each counted once."""
        towers = as_towers(inputs)
        arrays = (x for tower in towers for x in arrays_of(tower))
        backend = backend_for(self.label, "inputs", *arrays)
        _, rows, uses = self._in_time(backend, towers, "inputs")
        return sum(rows) // uses

    def _paired(
        self,
        backend: Backend,
        towers: tuple[Any, ...],
        sources: tuple[tuple[Any, ...], ...],
    ) -> tuple[tuple[Array, ...], list[int], int]:
        """Return what `_in_time` does of the inputs, checked against all gradients.

        Raises:
            ArgumentError: If gradients have another number of uses.
            ShapeError: If they have another number of rows.
        """
        parts, rows, uses = self._in_time(backend, towers, "inputs")
        for source in sources:
            _, others, found = self._in_time(backend, source, "outputs_grads")
            if found != uses:
                msg = (
                    f"{self.label}: the inputs have {uses} uses and outputs_grads"
                    f" {found}; give both for the same uses"
                )
                raise ArgumentError(msg)
            if others != rows:
                msg = (
                    f"{self.label}: the inputs have {rows} rows (one number a tower,"
                    f" over all uses) and outputs_grads {others}; give both for the"
                    " same cases"
                )
                raise ShapeError(msg)
        return parts, rows, uses

    def _in_time(
        self, backend: Backend, towers: tuple[Any, ...], argument: str
    ) -> tuple[tuple[Array, ...], list[int], int]:
        """Return the arrays of all towers, the rows of each, and ``T``."""
        parts: list[Array] = []
        rows, counts = [], []
        for tower in towers:
            rank = self._input_rank(tower) if argument == "inputs" else 2
            found, uses = in_parts(
                backend,
                tower,
                rank,
                self.num_uses,
                argument,
                self.label,
                batch_first=self.batch_first,
                in_order=False,
            )
            parts.extend(found)
            rows.append(sum(x.shape[0] for x in found))
            counts.append(uses)
        if len(set(counts)) != 1:
            msg = (
                f"{self.label}: the towers of {argument} have {counts} uses, expected"
                " at least one tower, and as many uses in each"
            )
            raise ArgumentError(msg)
        return tuple(parts), rows, counts[0]

    def _input_rank(self, tower: Any) -> int:
        """Return the number of axes of one use's inputs."""
        return 2

    def _known(
        self,
        backend: Backend,
        towers: tuple[Any, ...],
        parts: tuple[Array, ...],
        uses: int,
        like: Array,
    ) -> tuple[UseWeights, ...] | None:
        """Return zeros for what does not count, ones for the rest; None: all ones."""
        return None

    def _as_cases(
        self,
        backend: Backend,
        towers: tuple[Any, ...],
        parts: tuple[Array, ...],
        options: Mapping[str, Any],
        uses: int,
    ) -> dict[str, Any]:
        """Return the options of a factor that sees each use as a case of its own."""
        own = dict(options)
        if "num_cases" in own:
            own["num_cases"] = own["num_cases"] * uses
        if "weights" in own:
            flat = [
                in_rows(
                    backend,
                    weights,
                    case_slow=self.batch_first and not isinstance(tower, Uses),
                )
                for weights, tower in zip(own["weights"], towers, strict=True)
            ]
            sizes = [x.shape[0] for x in parts]
            own["weights"] = split_rows(backend.xp.concat(flat), sizes)
        return own

    def _rows_factor(
        self,
        size: int,
        has_bias: bool,
        side: str,
        *,
        diagonal: bool = False,
        max_rows: int | None = None,
        num_blocks: int = 1,
    ) -> FullyConnectedMultiKF:
        """Return the factor of the rows of one side, ``"input"`` or ``"output"``."""
        options = self._factor_options(side)
        form = form_of_side(
            options["name"],
            diagonal=diagonal,
            max_rows=max_rows,
            num_blocks=num_blocks,
        )
        options.setdefault("form", form)
        return FullyConnectedMultiKF(
            size,
            has_bias,
            self.num_uses,
            batch_first=self.batch_first,
            data_name="inputs" if side == "input" else "outputs_grads",
            **options,
        )


@dataclass(frozen=True)
class FullyConnectedMultiIndepFB(MultiUseFB):
    """K-FAC of a shared fully connected layer, its uses taken to be independent.

    ``F = T kron(E[a a'], E[g g'])``, the means over cases and uses (Martens, Ba &
    Johnson, 2018, section 3.4). A diagonal side is a snapshot, as the other side is;
    ``tf.contrib.kfac`` evaluates it afresh at every product.

    Attributes:
        input_size: Length of a row of inputs.
        output_size: Length of a row of outputs.
        has_bias: Whether the layer has a bias: the last row of its parameters' matrix.
        num_uses: ``T``, or None where the data say it; see `kfac_core.rows.uses`.
        batch_first: As in `MultiUseFB`.
        diagonal_approx_for_input: Whether to keep the diagonal of ``A`` alone.
        diagonal_approx_for_output: Whether to keep the diagonal of ``G`` alone.
        input_max_rows: As in `FullyConnectedKFACBasicFB`; counts the rows of all uses.
        output_max_rows: As `input_max_rows`, for the outputs.
        input_blocks: As in `FullyConnectedKFACBasicFB`.
        output_blocks: As in `FullyConnectedKFACBasicFB`.
        layout: As in `FullyConnectedKFACBasicFB`.

    Example:
        >>> import numpy as np
        >>> block = FullyConnectedMultiIndepFB(2, 1, num_uses=3)
        >>> x = np.asarray([[1, 0], [2, 1], [0, 1], [1, 1], [2, 0], [1, 2.0]])
        >>> g = np.asarray([[1], [-1], [0.5], [-0.5], [1], [2]])
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=0.3)
        >>> block.multiply_inverse(state, np.asarray([[1.0], [2.0]])).round(6)
        array([[-0.012779],
               [ 0.293391]])
    """

    input_size: int
    output_size: int
    has_bias: bool = False
    num_uses: int | None = None
    diagonal_approx_for_input: bool = False
    diagonal_approx_for_output: bool = False
    input_max_rows: int | None = field(default=None, kw_only=True)
    output_max_rows: int | None = field(default=None, kw_only=True)
    input_blocks: int = field(default=1, kw_only=True)
    output_blocks: int = field(default=1, kw_only=True)
    layout: DenseLayout = field(default="in_out", kw_only=True)

    def __post_init__(self) -> None:
        """Make the factors, once."""
        super().__post_init__()
        self._set_dense_layout(
            self.layout, self.input_size, self.output_size, self.label
        )
        self._set_factors(
            self._rows_factor(
                self.input_size,
                self.has_bias,
                "input",
                diagonal=self.diagonal_approx_for_input,
                max_rows=self.input_max_rows,
                num_blocks=self.input_blocks,
            ),
            self._rows_factor(
                self.output_size,
                False,
                "output",
                diagonal=self.diagonal_approx_for_output,
                max_rows=self.output_max_rows,
                num_blocks=self.output_blocks,
            ),
        )
