"""The Kronecker product of a matrix that unlike layers share."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from kfac_core import moving_average
from kfac_core.arguments.arrays import as_sources, as_towers, backend_for
from kfac_core.arguments.options import check_word
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.side import form_of_side
from kfac_core.fisher_blocks.tied.rows import weights_by_place
from kfac_core.fisher_blocks.tied.state import TiedState, UseState
from kfac_core.fisher_factors import (
    EmbeddingInputKroneckerFactor,
    FisherFactor,
    FullyConnectedKroneckerFactor,
)
from kfac_core.linalg.pooling import Pooling, Term, pooled
from kfac_core.moving_average import MovingAverage, added, mean_or_zero
from kfac_core.rows.counts import check_mean_weight, counted
from kfac_core.rows.uses import MultiSources, MultiTowers, arrays_of
from kfac_core.state import kept
from kfac_core.statistics.ids import RepeatedIds
from kfac_core.statistics.weighted_rows import as_rows
from kfac_core.typing import Array, Scalar, Weights

UseKind = Literal["embedding", "fully_connected", "transposed"]
"""What a layer does with a matrix ``V``: look rows up, ``x V``, or ``x V'``."""


def use_kinds(uses: Any, label: str) -> tuple[UseKind, ...]:
    """Return the kinds of all uses.

    Raises:
        ArgumentError: If `uses` is not a sequence of kinds.
    """
    if not isinstance(uses, tuple | list):
        msg = (
            f"{label}: uses is {shown(uses)}, expected a tuple of the kind of each use"
        )
        raise ArgumentError(msg)
    for use in uses:
        check_word(use, get_args(UseKind), "a kind in uses", label)
    return tuple(uses)


@dataclass(frozen=True)
class TiedMatrixFB(KroneckerProductFB):
    """One Kronecker product for a matrix ``[rows, columns]`` that unlike layers use.

    `TiedWeightsKFACFB` uses it for its weights, and describes the fields.

    Attributes:
        uses: For each use its kind.
        input_size: Number of rows.
        output_size: Number of columns.
        pooling: How one product is made of the products of all uses.
        diagonal_rows: Whether the factor of the rows is diagonal.
        diagonal_columns: Whether the factor of the columns is diagonal.
        repeated_ids: How an id that is repeated within a position counts.
    """

    uses: tuple[UseKind, ...]
    input_size: int
    output_size: int
    pooling: Pooling = "marginal"
    diagonal_rows: bool = True
    diagonal_columns: bool = False
    repeated_ids: RepeatedIds = "n_hot"

    _of_uses: tuple[tuple[Any, Any], ...] = field(init=False, repr=False, compare=False)

    is_repeated: ClassVar[bool] = True
    has_factors: ClassVar[bool] = False  # those of the uses are no fields

    def __post_init__(self) -> None:
        """Make the factors, once; errors as in `TiedWeightsKFACFB`."""
        super().__post_init__()
        object.__setattr__(self, "uses", use_kinds(self.uses, self.label))
        if not self.uses:
            msg = f"{self.label}: uses is empty, expected the kind of each use"
            raise ArgumentError(msg)
        self._set_factors(
            self._side(self.input_size, self.diagonal_rows, "input"),
            self._side(self.output_size, self.diagonal_columns, "output"),
        )
        statistics = tuple(
            self._statistics_of(use, place) for place, use in enumerate(self.uses)
        )
        object.__setattr__(self, "_of_uses", statistics)

    def init(self, like: Array) -> Any:
        """Return the state before any data; see `FisherBlock.init`."""
        state = super().init(like)
        zero = state.uses.total
        by_use = tuple(
            UseState(
                rows.init(like),
                columns.init(like),
                self._init_uses(zero),
                moving_average.of_number(state.weights.weight),
            )
            for rows, columns in self._of_uses
        )
        return TiedState(**state._asdict(), by_use=by_use)

    def update_covs(
        self,
        state: Any,
        inputs: MultiTowers,
        outputs_grads: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> Any:
        """Fold a batch into the statistics; see `TiedWeightsKFACFB.update_covs`."""
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        arrays = [
            x for data in (towers, *sources) for tower in data for x in arrays_of(tower)
        ]
        backend = backend_for(
            self.label, "state, inputs, outputs_grads", self._own(state).scale, *arrays
        )
        like = state.scale
        ema = self._ema(backend, ema_decay, ema_weight, like)
        by_place = self._by_use(towers, sources)
        inputs_of = [
            tuple(
                self._rows_of(backend, kind, x, g)
                for x, g in zip(given, gradients[0], strict=True)
            )
            for kind, (given, gradients) in zip(self.uses, by_place, strict=True)
        ]
        shapes = [
            [tuple(g.shape[:-1]) for g in gradients[0]] for _, gradients in by_place
        ]
        known = weights_by_place(
            backend, weights, [*zip(*shapes, strict=True)], like, self.label
        )
        by_use: list[UseState] = []
        fits: Array | None = None
        for place, (kind, specs, old) in enumerate(
            zip(self.uses, self._of_uses, state.by_use, strict=True)
        ):
            _, gradients = by_place[place]
            folded = tuple(
                tuple(_flat(backend, g) for g in source) for source in gradients
            )
            cases = max(sum(batch for batch, *_ in shapes[place]), 1)
            positions = sum(map(math.prod, shapes[place])) / cases
            counts = counted(
                backend,
                known[place],
                shapes[place],
                positions,
                num_cases,
                like,
                self.label,
            )
            data = [
                (arrays, as_rows(backend, own, shapes[place], positions, num_cases))
                for arrays, own in zip(
                    (inputs_of[place], folded), known[place], strict=True
                )
            ]
            if kind == "transposed":
                data.reverse()
            (a, of_a), (b, of_b) = data
            averages = [old.positions, old.weights]
            numbers = [positions, counts.mean_weight]
            number, weight = moving_average.fold_numbers(
                backend, averages, numbers, ema
            )
            by_use.append(
                UseState(
                    specs[0].update_cov(old.rows, a, ema, **of_a),
                    specs[1].update_cov(old.columns, b, ema, **of_b),
                    number,
                    weight,
                )
            )
            fit = check_mean_weight(backend, counts.mean_weight, weight, self.label)
            if fit is not None:
                fits = fit if fits is None else fits & fit
        new = self._pooled(backend, state._replace(by_use=tuple(by_use)))
        pooled_state: Any = new
        return whole(backend, pooled_state, state, "cov_ok", fits)

    def _union(self, states: tuple[Any, ...]) -> Any:
        backend = backend_for(
            self.label, "state, others", *[state.scale for state in states]
        )
        fresh = self.init(states[0].scale)
        by_use = []
        for specs, *uses in zip(
            self._of_uses, *[state.by_use for state in states], strict=True
        ):
            rows, columns, positions, weights = zip(*uses, strict=True)
            by_use.append(
                UseState(
                    specs[0].merge(*rows),
                    specs[1].merge(*columns),
                    added(backend, positions),
                    added(backend, weights),
                )
            )
        new = self._pooled(backend, fresh._replace(by_use=tuple(by_use)))
        return whole(backend, new, states[0], "cov_ok")

    def _pooled(self, backend: Backend, state: TiedState) -> TiedState:
        """Return the state with its factors made of the statistics of all uses."""
        terms = []
        for use in state.by_use:
            a, g = (mean_or_zero(backend, own.cov) for own in use[:2])
            if a.ndim == 1 and not self.diagonal_rows:
                device = backend.creation_device(a)
                eye = backend.xp.eye(a.shape[0], dtype=a.dtype, device=device)
                a = eye * a
            count = mean_or_zero(backend, use.positions)
            terms.append(Term(count, a, g, mean_or_zero(backend, use.weights)))
        term = pooled(backend, terms, self.pooling)
        mean, weight = term.weight, state.by_use[0].rows.cov.weight
        assert mean is not None, "all terms have one"

        def average(value: Array) -> MovingAverage:
            return MovingAverage(kept(value * weight), kept(weight * 1))

        ok = state.by_use[0].rows.cov_ok
        for use in state.by_use:
            ok = ok & use.rows.cov_ok & use.columns.cov_ok
        return state._replace(
            input_factor=state.input_factor._replace(
                cov=average(term.a), cov_ok=kept(ok & ok)
            ),
            output_factor=state.output_factor._replace(
                cov=average(term.g), cov_ok=kept(ok)
            ),
            uses=average(term.uses),
            weights=average(mean),
        )

    def _by_use(
        self, towers: tuple[Any, ...], sources: tuple[tuple[Any, ...], ...]
    ) -> list[tuple[tuple[Array, ...], tuple[tuple[Array, ...], ...]]]:
        """Check the cases, and return for each use its towers and its sources."""
        number = len(self.uses)
        for name, data in (("inputs", (towers,)), ("outputs_grads", sources)):
            found = [len(arrays_of(tower)) for part in data for tower in part]
            if any(count != number for count in found) or not found:
                msg = (
                    f"{self.label}: {name} has {found} uses (one number a tower),"
                    f" expected Uses of {number} arrays, of the uses"
                    f" {', '.join(self.uses)}"
                )
                raise ShapeError(msg)
        for source in sources:
            cases = [
                {x.shape[0] for x in (*arrays_of(tower), *arrays_of(own)) if x.shape}
                for tower, own in zip(towers, source, strict=False)
            ]
            if len(source) != len(towers) or any(len(each) != 1 for each in cases):
                msg = (
                    f"{self.label}: inputs and outputs_grads have {len(towers)} and"
                    f" {len(source)} towers, of {[*map(sorted, cases)]} rows; give all"
                    " uses for the same cases"
                )
                raise ShapeError(msg)
        return [
            (
                tuple(arrays_of(tower)[place] for tower in towers),
                tuple(
                    tuple(arrays_of(tower)[place] for tower in source)
                    for source in sources
                ),
            )
            for place in range(number)
        ]

    def _rows_of(self, backend: Backend, kind: UseKind, x: Array, g: Array) -> Array:
        """Return the inputs of a use, a row or an id for each position."""
        leading = tuple(g.shape[:-1])
        fits = g.ndim >= 2 and tuple(x.shape[: len(leading)]) == leading
        extra = x.ndim - len(leading)
        if not fits or extra not in ((0, 1) if kind == "embedding" else (1,)):
            msg = (
                f"{self.label}: inputs of the use {kind!r} have shape {tuple(x.shape)}"
                f" and outputs_grads {tuple(g.shape)}, expected [batch, ...] with as"
                " many positions, and one axis more for features, or for the ids of one"
                " position"
            )
            raise ShapeError(msg)
        count = 1
        for size in leading:
            count *= size
        return backend.xp.reshape(x, (count, *x.shape[len(leading) :]))

    def _side(self, size: int, diagonal: bool, side: str) -> FisherFactor:
        form = form_of_side(self.label, diagonal=diagonal)
        return FullyConnectedKroneckerFactor(
            size, form=form, **self._factor_options(side)
        )

    def _statistics_of(
        self, kind: UseKind, place: int
    ) -> tuple[FisherFactor, FisherFactor]:
        """Return the factors that average the two sides of a use, and serve nothing."""

        def options(name: str) -> dict[str, Any]:
            return {
                "name": f"{self.label} (use {place}, {kind}: {name})",
                **self._averaging(),
            }

        def rows(size: int, diagonal: bool, name: str) -> FisherFactor:
            form = form_of_side(self.label, diagonal=diagonal)
            return FullyConnectedKroneckerFactor(
                size, data_name=name, form=form, **options(name)
            )

        first, second = "inputs", "outputs_grads"
        if kind == "transposed":
            first, second = second, first
        of_columns = rows(self.output_size, self.diagonal_columns, second)
        if kind != "embedding":
            return rows(self.input_size, self.diagonal_rows, first), of_columns
        ids = EmbeddingInputKroneckerFactor(
            self.input_size, repeated_ids=self.repeated_ids, **options("inputs")
        )
        return ids, of_columns


def _flat(backend: Backend, g: Array) -> Array:
    """Return the gradients of all positions as rows."""
    return g if g.ndim == 2 else backend.xp.reshape(g, (-1, g.shape[-1]))
