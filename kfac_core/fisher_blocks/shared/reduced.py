"""`KFACReduceFB`: K-FAC-reduce, for every layer that acts at several positions."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from kfac_core.arguments.arrays import (
    as_sources,
    as_statistics,
    as_towers,
    backend_for,
    check_indices,
    check_not_empty,
    check_shape,
)
from kfac_core.arguments.options import check_options
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.fisher_blocks.case_gradients.cases import cases_of, check_gradients_known
from kfac_core.fisher_blocks.case_gradients.towers import Cases, Data
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.shared.convolution import ConvKFCBasicMultiIndepFB
from kfac_core.fisher_blocks.shared.embedding import EmbeddingKFACMultiIndepFB
from kfac_core.fisher_blocks.shared.fully_connected import FullyConnectedMultiIndepFB
from kfac_core.fisher_blocks.side import form_of_side
from kfac_core.fisher_factors import Form, FullyConnectedKroneckerFactor
from kfac_core.rows.counts import counted, weights_by_case
from kfac_core.rows.uses import MultiSources, MultiTowers, arrays_of
from kfac_core.rows.weights import sides
from kfac_core.statistics.pooled import (
    check_positions,
    mean_of_one_hot,
    mean_of_positions,
    split_weights,
    sum_of_positions,
    times,
)
from kfac_core.typing import Array, RowWeights, Scalar, Uses, Weights

OPTIONS = tuple(f for f in fields(KroneckerProductFB) if f.init)
"""The options of all Kronecker products: the layer's are those of its reduced block."""

LAYERS = (
    FullyConnectedMultiIndepFB,
    EmbeddingKFACMultiIndepFB,
    ConvKFCBasicFB,
    ConvKFCBasicMultiIndepFB,
)
"""The blocks whose layers act at several positions, independently of each other."""


@dataclass(frozen=True)
class KFACReduceFB(KroneckerProductFB):
    """K-FAC-reduce: a layer's positions are pooled before anything is squared.

    ``F = kron(E[a a'], E[g g'])`` over cases, where ``a`` is the mean of a case's
    inputs over its positions (locations, uses), and ``g`` the sum of its output
    gradients (Eschenhagen et al., 2023, section 3.3). It is exact for a deep linear
    network whose loss sees the mean of the positions; with `position_weights` also
    where it sees a weighted mean. Its counterpart, K-FAC-expand, is the layer's own
    block, which takes the positions to be independent, and is exact where each position
    has a loss of its own.

    Attributes:
        block: The layer's own block, such as a `FullyConnectedMultiIndepFB` or a
            `ConvKFCBasicFB`: it says what its data are. Its options of damping, powers
            and averaging are taken over, where they are not given here.
        diagonal_approx_for_input: Whether to keep the diagonal of ``A`` alone. The
            forms of the sides are those of `block`, but for an embedding: there ``A``
            is a matrix ``[vocab_size, vocab_size]``, as the ids of a case are
            correlated.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedMultiIndepFB
        >>> expand = FullyConnectedMultiIndepFB(1, 1, batch_first=True)
        >>> reduce = KFACReduceFB(expand)
        >>> x, g = np.asarray([[[1.0], [3.0]]]), np.asarray([[[0.5], [0.5]]])
        >>> for block in (expand, reduce):  # (1 * 0.5 + 3 * 0.5)^2 = 4
        ...     state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        ...     print(block.full_fisher_block(state))
        [[2.5]]
        [[4.]]
    """

    block: KroneckerProductFB
    diagonal_approx_for_input: bool = field(default=False, kw_only=True)
    _layer: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the factors, once.

        Raises:
            ArgumentError: If `block` is not of a layer with positions, or an option is
                given here and there, and not the same.
            UnsupportedError: If the layer's rows are not known, as with a mask of
                patches.
        """
        check_options(self)
        given: Any = self.block
        if not isinstance(given, LAYERS):
            msg = (
                f"{self.label}: block is a {type(given).__name__}, expected one of"
                f" {', '.join(each.__name__ for each in LAYERS)}; for a layer that acts"
                " once in a case, its own block is K-FAC-reduce and K-FAC-expand"
            )
            raise ArgumentError(msg)
        self._take_options(given)
        check_gradients_known(given)
        if given.needs_key:
            msg = (
                f"{self.label}: block draws a sample, expected one that takes all:"
                " leave out sub_sample_inputs and sub_sample_patches"
            )
            raise ArgumentError(msg)
        defaults = {f.name: f.default for f in OPTIONS if f.default is not MISSING}
        bare = replace(given, **defaults)
        object.__setattr__(self, "block", bare)
        super().__post_init__()
        has_bias = getattr(bare, "has_bias", False)
        without: dict[str, Any] = {"has_bias": False} if has_bias else {}
        object.__setattr__(self, "_layer", replace(bare, name=self.label, **without))
        object.__setattr__(self, "weight_layout", bare.weight_layout)
        self._set_factors(
            FullyConnectedKroneckerFactor(
                bare.input_factor.dimension - has_bias,
                has_bias,
                form=self._form("input", diagonal=self.diagonal_approx_for_input),
                data_name="inputs",
                **self._factor_options("input"),
            ),
            FullyConnectedKroneckerFactor(
                bare.output_factor.dimension,
                form=self._form("output"),
                data_name="outputs_grads",
                **self._factor_options("output"),
            ),
        )

    @property
    def count_cases(self) -> Callable[[Any], int] | None:
        """What counts the cases of inputs, where a block counts them in its own way."""
        return getattr(self._layer, "count_cases", None)

    def update_covs(
        self,
        state: KroneckerState,
        inputs: MultiTowers,
        outputs_grads: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        position_weights: Any = None,
        num_cases: Scalar | None = None,
    ) -> KroneckerState:
        """Fold a batch into the statistics of both factors.

        Args:
            state: The state; left as it is.
            inputs: As the layer's own block takes them.
            outputs_grads: As the layer's own block takes them.
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or each of its positions,
                in the form that the layer's own block takes: zero for padding; or a
                tuple of these (towers); None: one each. A case counts as its largest
                position does, and its positions by their ratio to that. Inputs and
                gradients may have different weights: see
                `kfac_core.typing.RowWeights`.
            position_weights: What the positions are pooled with, such as weights of
                attention, of the same forms; None: equal weights. They count in the
                mean of inputs alone, where a factor common to a case makes no
                difference: the gradients have them already.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            KfacError: As the layer's own block.
            UnsupportedError: If an embedding has several ids at a position.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        all_data = (towers, *sources)
        arrays = (x for data in all_data for tower in data for x in arrays_of(tower))
        backend = backend_for(
            self.label, "state, inputs, outputs_grads", self._own(state).scale, *arrays
        )
        like = state.scale
        shapes, uses = self._checked_shapes(backend, towers, sources)
        first = getattr(self._layer, "batch_first", None)
        of_inputs, of_outputs, pooling = (
            weights_by_case(
                backend, own, shapes, uses, like, self.label, batch_first=first
            )
            for own in (*sides(weights), position_weights)
        )

        def cast(towers: tuple[Any, ...], argument: str) -> tuple[Any, ...]:
            def one(x: Array) -> Array:
                return as_statistics(backend, x, like.dtype, argument, self.label)

            return tuple(
                Uses(tuple(map(one, x.arrays))) if isinstance(x, Uses) else one(x)
                for x in towers
            )

        x = towers if self._is_embedding else cast(towers, "inputs")
        gradients = tuple(cast(source, "outputs_grads") for source in sources)
        cases = cases_of(self._layer, backend, Data(x, gradients, None, like))
        rows, sums, weighed = [], [], []
        for own, *w in zip(cases, of_inputs, of_outputs, pooling, strict=True):
            check_positions(own.inputs.shape[1], w, self.label)
            mean, summed, each = self._pooled(backend, own, like, *w)
            rows.append(mean)
            sums.append(summed)
            weighed.append(each)
        a, g = (None if w[0] is None else w for w in zip(*weighed, strict=True))
        numbers = [(mean.shape[0],) for mean in rows]
        counts = counted(
            backend, RowWeights(a, g), numbers, 1.0, num_cases, like, self.label
        )
        pooled = (tuple(rows), tuple(zip(*sums, strict=True)))
        return self._fold(backend, state, pooled, counts, ema_decay, ema_weight)

    @property
    def _is_embedding(self) -> bool:
        return isinstance(self.block, EmbeddingKFACMultiIndepFB)

    def _form(self, side: str, *, diagonal: bool = False) -> Form:
        """Return the form of one side: that of the layer's block."""
        block: Any = self.block
        own = getattr(block, f"diagonal_approx_for_{side}", False)
        return form_of_side(
            f"{self.label} ({side} factor)",
            diagonal=diagonal or own,
            max_rows=getattr(block, f"{side}_max_rows", None),
            num_blocks=getattr(block, f"{side}_blocks", 1),
        )

    def _take_options(self, given: KroneckerProductFB) -> None:
        """Take the options of the layer's block where no others are given here.

        Raises:
            ArgumentError: If both are given, and differ.
        """
        for option in OPTIONS:
            own, other = getattr(self, option.name), getattr(given, option.name)
            is_same = type(own) is type(other) and own == other
            if other == option.default or is_same:
                continue
            if own is not option.default:
                msg = (
                    f"{self.label}: {option.name} is {shown(own)}, and {shown(other)}"
                    " in the block: give one of them"
                )
                raise ArgumentError(msg)
            object.__setattr__(self, option.name, other)

    def _checked_shapes(
        self,
        backend: Backend,
        towers: tuple[Any, ...],
        sources: tuple[tuple[Any, ...], ...],
    ) -> tuple[list[tuple[int, ...]], int]:
        """Return for each tower ``(rows, ..locations..)``, and the rows of a case."""
        layer = self._layer
        if isinstance(layer, ConvKFCBasicMultiIndepFB):
            images = layer._images(backend, towers, sources)
            return layer._tower_shapes(images), images.uses
        if isinstance(layer, ConvKFCBasicFB):
            layer._check_pairs(towers, sources)
            return [layer._weighted_shape(each) for each in towers], 1
        parts, rows, uses = layer._paired(backend, towers, sources)
        check_not_empty(parts, "inputs", self.label)
        if not self._is_embedding:
            self._check_rows(parts, layer.input_size, "inputs")
        for source in sources:
            gradients, _, _ = layer._in_time(backend, source, "outputs_grads")
            self._check_rows(gradients, layer.output_size, "outputs_grads")
        if self._is_embedding and any(ids.ndim > 1 for ids in parts):
            msg = (
                f"{self.label}: inputs have several ids at a position, expected one:"
                " the mean over positions of sums of ids is not known"
            )
            raise UnsupportedError(msg)
        return [(number,) for number in rows], uses

    def _check_rows(self, parts: tuple[Array, ...], size: int, argument: str) -> None:
        for part in parts:
            check_shape(part, ("rows", size), argument, self.label)

    def _pooled(
        self,
        backend: Backend,
        cases: Cases,
        like: Array,
        of_inputs: Array | None,
        of_outputs: Array | None,
        pooling: Array | None,
    ) -> tuple[Array, tuple[Array, ...], tuple[Array | None, Array | None]]:
        """Return mean inputs, summed gradients, and how much cases count for both."""
        first, by_input = split_weights(backend, of_inputs)
        second, by_output = split_weights(backend, of_outputs)
        _, by_pooling = split_weights(backend, pooling)
        if not self._is_embedding:
            own = times(by_input, by_pooling)
            mean = mean_of_positions(backend, cases.inputs, own)
        else:
            ids = cases.inputs
            known = self._known(backend, ids, of_inputs, like)
            if known is not None:
                some = backend.xp.max(known, axis=1)
                first, second = times(first, some), times(second, some)
                by_input, by_output = times(by_input, known), times(by_output, known)
            own, size = times(by_input, by_pooling), self.input_factor.dimension
            mean = mean_of_one_hot(backend, ids, size, own, like)
        gradients = tuple(
            sum_of_positions(backend, g, by_output) for g in cases.gradients
        )
        return mean, gradients, (first, second)

    def _known(
        self, backend: Backend, ids: Array, weights: Array | None, like: Array
    ) -> Array | None:
        """Return ones for ids that count, ``[cases, positions]``; None: all do.

        Raises:
            ArgumentError: If an id of a weight above zero is out of range.
        """
        xp, factor = backend.xp, self._layer.input_factor
        known = factor.known_cases(backend, xp.reshape(ids, (-1,)), like.dtype)
        judged = ids
        if weights is not None:
            counts = (weights if weights.ndim == 2 else weights[:, None]) > 0
            judged = xp.where(counts, ids, xp.zeros_like(ids))
        least = 0 if known is None else None
        size = factor.vocab_size
        check_indices(backend, judged, size, "input_ids", self.label, least)
        return None if known is None else xp.reshape(known[0], ids.shape)
