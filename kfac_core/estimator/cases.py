"""Checks that a linearization's data fit the number of cases that it states.

The estimated matrix belongs to the loss summed over the batch and divided by
`batch_size`, and the statistics of a layer are means over its cases. So the data must
have the rows of these cases:

- a layer has one row for each case, over all its towers together; or as many as a case
  has uses, where its block knows their number (`num_uses`, or several sites in one
  tower). It may have fewer rows, for cases that do not reach it, and never more;
- the array of a layer whose number of uses the data alone say, ``[uses, cases, ...]``,
  or ``[cases, uses, ...]`` with `batch_first`, is read by its axis of cases. Where that
  axis has another length than `batch_size`, and the axis of uses has this one, the two
  are taken to be swapped. If both have it, the orders cannot be told apart;
- a loss has one row for each case, or the same number of rows for each, or fewer;
- at least one loss or layer has a row for every case.

The checks find layers whose uses are registered as towers, or whose positions are
flattened into the batch, and a wrong `batch_size`. They read shapes alone, so that they
work under a trace as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.layer_collection import LayerRegistration
from kfac_core.layer_collection.sites import listed
from kfac_core.linearization import Linearization
from kfac_core.registered_losses import LossAt, batch_size_of, loss_rows
from kfac_core.rows.uses import arrays_of
from kfac_core.typing import Uses


def check_cases(
    losses: Sequence[LossAt],
    layers: Sequence[LayerRegistration],
    data: Mapping[str, tuple[Any, ...]],
    linearization: Linearization,
    *,
    are_all: bool,
) -> dict[str, int]:
    """Check the rows of losses and layers against the number of cases.

    Args:
        losses: The losses, at their sites.
        layers: The layers whose data are about to be used.
        data: For each layer, by its name, what `kfac_core.estimator.layer_data`
            returns.
        linearization: The model at its parameters and a batch.
        are_all: Whether there are no other layers.

    Returns:
        For each layer with sites, by its name, the number of cases that reach it.

    Raises:
        ArgumentError: If the number of cases is not a positive integer, or larger than
            any number of rows.
        ShapeError: If a layer or a loss has more rows than it can have, or the axes of
            uses and of cases are swapped.
    """
    size = batch_size_of(linearization)
    most = loss_rows(losses, linearization)
    reached: dict[str, int] = {}
    for layer in layers:
        if not layer.towers:
            continue  # the gradients for its parameters have no rows
        first, *_ = data[layer.name]
        towers = first if layer.block.takes_inputs else first[0]
        cases = _cases(layer, towers)
        if cases != size and _cases_if_swapped(layer, towers) == size:
            raise ShapeError(_swapped(layer, towers, cases, size))
        if cases > size:
            raise ShapeError(_too_many(layer, cases, size))
        most = max(most, cases)
        reached[layer.name] = cases
    # If only some layers are given, all cases may reach one of the others.
    if most < size and are_all:
        msg = (
            f"FisherEstimator: the linearization's batch_size is {size}, but no layer"
            f" and no loss has rows for more than {most} cases; give the number of"
            " cases that its arrays hold"
        )
        raise ArgumentError(msg)
    return reached


def _cases(layer: LayerRegistration, towers: tuple[Any, ...]) -> int:
    """Return the number of cases in the data of a layer, over all its towers."""
    count = getattr(layer.block, "count_cases", None)
    return sum(map(_rows, towers)) if count is None else int(count(towers))


def _cases_if_swapped(layer: LayerRegistration, towers: tuple[Any, ...]) -> int:
    """Return the number of cases if they lie where the uses are read; else zero."""
    # A block around that of the layer reads the data as that block does.
    own = getattr(layer.block, "block", layer.block)
    is_said_by_data = getattr(own, "num_uses", 0) is None
    if not is_said_by_data or any(isinstance(tower, Uses) for tower in towers):
        return 0
    return sum(tower.shape[_axis_of_uses(own)] for tower in towers)


def _axis_of_uses(block: Any) -> int:
    return 1 if block.batch_first else 0


def _rows(tower: Any) -> int:
    """Return the number of rows of one use; its block refuses what is not an array."""
    first, *_ = arrays_of(tower) or (None,)
    shape = getattr(first, "shape", ())
    return int(shape[0]) if shape else 0


def _swapped(
    layer: LayerRegistration, towers: tuple[Any, ...], cases: int, size: int
) -> str:
    own: Any = getattr(layer.block, "block", layer.block)
    first, axis = own.batch_first, _axis_of_uses(own)
    uses, shapes = towers[0].shape[axis], [tuple(x.shape) for x in towers]
    order = "[cases, uses, ...]" if first else "[uses, cases, ...]"
    return (
        f"{layer.name}: the data of {listed(layer.sites)} have the shapes {shapes},"
        f" which batch_first={first} reads as {order}, {cases} cases; but the"
        f" linearization's batch_size is {size}, which the axis of uses has: give"
        f" batch_first={not first} to the block if the two are swapped, and"
        f" num_uses={uses} if only {cases} cases reach the layer indeed"
    )


def _too_many(layer: LayerRegistration, cases: int, size: int) -> str:
    many = len(layer.towers) > 1
    if many:
        towers = f"the {len(layer.towers)} towers of the sites {listed(layer.sites)}"
    else:
        towers = f"the data of {listed(layer.sites)}"
    where = "over its towers " if many else ""
    return (
        f"{layer.name}: {towers} hold {cases} cases, but the linearization's batch_size"
        f" is {size}. Towers are shards of the batch: if the same cases use the layer"
        " several times, register all its uses as one tower, by a tuple of their sites"
        " (register_fully_connected_multi and the like); if one array holds several"
        " uses or positions of each case as rows, say how many by num_uses of the"
        f" same functions; and if there are {cases} cases {where}indeed, batch_size is"
        " wrong"
    )
