"""Which case each row of a layer belongs to, as the first pass shows it.

A model may have time before its cases, as recurrent networks of PyTorch have unless
they are told otherwise, or both in one axis, as attention has. Shapes do not tell where
a sequence is as long as the batch. Where they leave a doubt, vectors that are zero for
half of the cases are pulled back: the rows that these do not reach are of the others.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.autograd.graph import GradientEdge

from kfac_adapters.row_evidence import judge, masks
from kfac_adapters.row_orders import RowOrder, order_of
from kfac_adapters.torch.loss_rows import cases_of, like_outputs, with_rows_last
from kfac_adapters.torch.record import Record, Use

Side = tuple[int, bool]
"""Index of a use, and whether its rows are those that its bias is added to."""


def leading(use: Use, of_bias: bool = False) -> tuple[int, ...]:
    """Return the axes of a use before those of one position; at least one.

    Args:
        use: The use.
        of_bias: Whether to return all axes that its bias is added along.

    Returns:
        The axes.
    """
    shape, axes = use.call.inputs.shape, use.call.axes
    if of_bias:
        like = torch.empty(()).expand(use.shape)
        shape, axes = use.call.pulls_bias(like).shape, use.bias_axes
    return tuple(shape[: len(shape) - axes]) or (1,)


def orders_of(
    params: Mapping[str, torch.Tensor],
    record: Record,
    outputs: torch.Tensor,
    edge: GradientEdge,
    class_axis: int,
) -> dict[Side, RowOrder]:
    """Return the orders of rows that are known, pulling back if shapes leave doubt.

    Args:
        params: The trained parameters, by name.
        record: What the forward pass did.
        outputs: What goes into the loss, without a graph.
        edge: Where its graph ends.
        class_axis: The axis of the outputs that a row of the loss is along.

    Returns:
        The orders of the uses whose rows have a place for every axis of cases.
    """
    cases = cases_of(outputs, class_axis)
    rows = {
        (i, of_bias): leading(use, of_bias)
        for i, use in enumerate(record.uses)
        for of_bias, name in ((False, use.weight), (True, use.bias))
        if name
    }
    rows = {side: own for side, own in rows.items() if cases and 0 not in own}
    reached: dict[Side, np.ndarray] = {}
    if not all(_is_certain(own, cases) for own in rows.values()):
        vectors = _vectors(outputs, cases, class_axis)
        reached = _reached(params, record, edge, rows, vectors)
    orders = {}
    for side, own in rows.items():
        nothing = np.zeros((2 * len(cases) + 1, *own), bool)
        *halves, alone = reached.get(side, nothing)
        order = order_of(own, cases, judge(np.stack(halves), own, cases))
        if _are_of_all(order, own, cases, alone):
            orders[side] = RowOrder(((None,),) * len(own), (False,) * len(cases))
        elif _is_trusted(order, cases):
            orders[side] = order
    return orders


def _is_certain(rows: Sequence[int], cases: Sequence[int]) -> bool:
    """Return whether shapes leave no doubt where the cases are among some rows.

    They do so where all axes have lengths of their own, and each axis of cases is one
    of them; or where the rows are those of the first axes of cases, as images of which
    each pixel has a loss.
    """
    if len({*rows}) < len(rows):
        return False
    return {*cases} <= {*rows} or tuple(rows) == tuple(cases[: len(rows)])


def _vectors(
    outputs: torch.Tensor, cases: tuple[int, ...], class_axis: int
) -> Sequence[torch.Tensor]:
    """Return random vectors at the outputs, each zero for half of an axis of cases.

    The last one is zero for all but one index of the first axis.
    """
    generator = torch.Generator(outputs.device).manual_seed(0)
    whole = torch.randn(
        outputs.shape, generator=generator, dtype=torch.float32, device=outputs.device
    ).to(outputs.dtype)
    moved = with_rows_last(whole, class_axis)
    found, alone = [], np.zeros(cases, bool)
    alone[0] = True
    for half in (*masks(cases), alone):
        kept = torch.tensor(half, device=outputs.device)[..., None]
        own = torch.where(kept, moved, 0.0)
        found.append(like_outputs(own, outputs, class_axis))
    return found


def orders_in(
    record: Record, indices: Sequence[int], of_bias: bool
) -> tuple[tuple[int, RowOrder], ...]:
    """Return the known orders of uses that do not contradict each other.

    Args:
        record: What the forward pass did.
        indices: Which of its uses.
        of_bias: Whether of the rows that a bias is added to.

    Returns:
        The orders, by the number of axes of rows.
    """
    found: dict[int, set[RowOrder]] = {}
    for i in indices:
        order = record.orders.get((i, of_bias))
        if order is not None:
            found.setdefault(len(order.axes), set()).add(order)
    return tuple((axes, own.pop()) for axes, own in found.items() if len(own) == 1)


def _reached(
    params: Mapping[str, torch.Tensor],
    record: Record,
    edge: GradientEdge,
    rows: Mapping[Side, tuple[int, ...]],
    vectors: Sequence[torch.Tensor],
) -> dict[Side, np.ndarray]:
    """Return which rows of uses each of some vectors gives a gradient."""
    found = {side: np.zeros((len(vectors), *own), bool) for side, own in rows.items()}
    uses = sorted({i for i, _ in rows})
    edges = [record.uses[i].edge for i in uses]
    for place, vector in enumerate(vectors):
        pulled = record.hearers.pulled(edge, vector, edges, params.values())
        at = dict(zip(uses, pulled, strict=True))
        for (index, of_bias), own in rows.items():
            gradient, use = at[index], record.uses[index]
            if gradient is None:
                continue
            gradient = gradient.reshape(use.shape)
            pulls = use.call.pulls_bias if of_bias else use.call.pulls
            size = pulls(gradient).reshape(*own, -1).abs().amax(-1)
            shown = size.isfinite() & (size > 0)
            found[index, of_bias][place] = shown.cpu().numpy()
    return found


def _are_of_all(
    order: RowOrder, rows: Sequence[int], cases: Sequence[int], alone: np.ndarray
) -> bool:
    """Return whether rows are of all cases alike, as those of positions are.

    Args:
        order: What was found of their order.
        rows: Their shape.
        cases: The axes of cases.
        alone: Which of them a single index of the first axis of cases reaches.
    """
    # As many rows as cases are theirs: batch normalisation couples these, too.
    few = math.prod(rows) < math.prod(cases)
    seen = any(known for known, own in zip(order.known, cases, strict=True) if own > 1)
    return few and not seen and cases[0] > 1 and bool(alone.all())


def _is_trusted(order: RowOrder, cases: Sequence[int]) -> bool:
    """Return whether an order has places that are seen, or those of whole axes alone.

    An axis of rows that is cut into digits is one of cases if it is seen to be; or if
    what is left of it, where another axis of cases was seen, has the right length.
    """
    if not order.is_whole:
        return False
    for digits in order.axes:
        own = [digit[0] for digit in digits if digit is not None]
        seen = any(order.known[j] for j in own)
        doubtful = any(not order.known[j] and cases[j] > 1 for j in own)
        if len(digits) > 1 and doubtful and not seen:
            return False
    return True
