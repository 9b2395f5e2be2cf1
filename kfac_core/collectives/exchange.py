"""Which arrays of a state ranks exchange: sums, and what is computed from them.

Statistics are weighted sums and sums of weights, which add up over ranks. What
`update_inverses` computes from them is the same for all, and one rank can do it. A walk
over a state visits both; what is neither, such as the uses of a layer that has one for
each case, stays as it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfac_core import tree
from kfac_core.errors import UnsupportedError
from kfac_core.fisher_blocks import EigenvalueCorrectedFB, FisherBlock, ForwardOnlyFB
from kfac_core.fisher_blocks.base.parts import PartsFB
from kfac_core.fisher_blocks.tied.product import TiedMatrixFB
from kfac_core.fisher_factors import FactorState, FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.forms.block_diagonal import BlockDiagonal
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.fisher_factors.forms.uncorrelated_pixels import UncorrelatedPixels
from kfac_core.fisher_factors.shared.lagged_state import LaggedExtra
from kfac_core.moving_average import MovingAverage
from kfac_core.registry import backend_of
from kfac_core.state import is_known_false
from kfac_core.typing import Array


class Part(NamedTuple):
    """What an array of a state is.

    Attributes:
        is_sum: Whether it is a sum over batches.
        is_derived: Whether `update_inverses` computes it.
        is_symmetric: Whether it is a symmetric matrix, or a stack of these.
    """

    is_sum: bool = False
    is_derived: bool = False
    is_symmetric: bool = False


SUM, DERIVED = Part(is_sum=True), Part(is_derived=True)

Visit = Callable[[Array, Part], Array]
"""Takes an array, and what it is; returns what takes its place."""


def exchanged(block: FisherBlock[Any], state: Any, visit: Visit) -> Any:
    """Return a state whose sums and derived arrays are what a visit returns.

    Args:
        block: The block.
        state: A state of it.
        visit: Sees each array once, in one order for all states of the block.

    Returns:
        The state.

    Raises:
        UnsupportedError: If the statistics of the block are no sums over ranks.
    """
    spec: Any = block
    if isinstance(block, PartsFB):
        parts = tuple(exchanged(own, part, visit) for own, part in block._paired(state))
        return state._replace(parts=parts)
    if isinstance(block, ForwardOnlyFB):
        return exchanged(block._product, state, visit)
    if isinstance(block, EigenvalueCorrectedFB):
        inner = exchanged(block._product, state.block, visit)
        # New eigenvectors come with eigenvalues of their own.
        moments = _average(state.moments, visit, Part(is_sum=True, is_derived=True))
        return state._replace(block=inner, moments=moments)
    if isinstance(block, TiedMatrixFB):
        return _tied(spec, state, visit)
    if type(block)._union is not FisherBlock._union:
        _refuse(block.label, type(block).__name__)
    return _fields(spec, state, visit)


def _fields(spec: Any, state: Any, visit: Visit) -> Any:
    if not spec.zero_debias:
        _refuse(spec.label, "averages with an initial value (zero_debias=False)")
    fields: dict[str, Any] = {}
    for name, own in state._asdict().items():
        if isinstance(own, FactorState):
            fields[name] = _factor(getattr(spec, name), own, visit)
        elif isinstance(own, MovingAverage):
            # Without repetition, the uses of a case are one from the start.
            if name != "uses" or spec.is_repeated:
                fields[name] = _average(own, visit, SUM)
        elif not isinstance(own, tuple):
            fields[name] = visit(own, DERIVED)
    return state._replace(**fields)


def _tied(spec: Any, state: Any, visit: Visit) -> Any:
    uses = []
    for (rows, columns), use in zip(spec._of_uses, state.by_use, strict=True):
        uses.append(
            use._replace(
                rows=_factor(rows, use.rows, visit),
                columns=_factor(columns, use.columns, visit),
                positions=_average(use.positions, visit, SUM),
                weights=_average(use.weights, visit, SUM),
            )
        )
    backend, pooled = backend_of(state.scale), state._replace(by_use=tuple(uses))
    if not is_known_false(backend, uses[0].positions.weight > 0):
        # The factors and weights of all uses are made of those of each.
        pooled = spec._pooled(backend, pooled)
    fields = {
        name: _factor(getattr(spec, name), own, visit, has_sums=False)
        if isinstance(own, FactorState)
        else visit(own, DERIVED)
        for name, own in pooled._asdict().items()
        if isinstance(own, FactorState) or not isinstance(own, tuple)
    }
    return pooled._replace(**fields)


def _factor(
    spec: FisherFactor, state: FactorState, visit: Visit, *, has_sums: bool = True
) -> FactorState:
    form = spec.form
    centred = isinstance(form, UncorrelatedPixels) and form.merges
    apart = not isinstance(form, UncorrelatedPixels) and type(form).union != Form.union
    if centred or apart:
        _refuse(spec.label, f"statistics of the form {type(form).__name__}")
    is_symmetric = isinstance(form, Dense | BlockDiagonal)
    shape = tuple(state.cov.total.shape)
    is_symmetric = is_symmetric and len(shape) > 1 and shape[-1] == shape[-2]
    total, weight = state.cov
    if has_sums:
        total = visit(total, SUM._replace(is_symmetric=is_symmetric))
        weight = visit(weight, SUM)

    def derived(x: Array) -> Array:
        return visit(x, DERIVED)

    def power(x: Array) -> Array:
        return visit(x, DERIVED._replace(is_symmetric=is_symmetric))

    own = state.derived
    extra: Any = state.extra
    if isinstance(extra, LaggedExtra):
        lagged = tuple(visit(x, SUM) for x in extra.cov_dt1)
        extra = tree.map(derived, extra._replace(cov_dt1=()))._replace(cov_dt1=lagged)
    else:
        extra = tree.map(derived, extra)
    return state._replace(
        cov=MovingAverage(total, weight),
        derived=own._replace(
            dampings=tree.map(derived, own.dampings),
            matpowers=tree.map(power, own.matpowers),
            choleskys=tree.map(derived, own.choleskys),
            cholesky_inverses=tree.map(derived, own.cholesky_inverses),
            eigendecompositions=tree.map(derived, own.eigendecompositions),
        ),
        computed=derived(state.computed),
        derived_ok=derived(state.derived_ok),
        extra=extra,
    )


def _average(average: MovingAverage, visit: Visit, part: Part) -> MovingAverage:
    return MovingAverage(visit(average.total, part), visit(average.weight, part))


def _refuse(label: str, what: str) -> None:
    msg = (
        f"{label}: {what} do not add up over ranks; take another approximation for"
        " this layer, or gather the states and use merge"
    )
    raise UnsupportedError(msg)
