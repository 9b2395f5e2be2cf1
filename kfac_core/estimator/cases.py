"""Checks that a linearization's data fit the number of cases that it states.

The estimated matrix belongs to the loss summed over the batch and divided by
`batch_size`, and the statistics of a layer are means over its cases. So the data must
have the rows of these cases:

- a layer has one row for each case, over all its towers together; or as many as a case
  has uses, where its block knows their number (`num_uses`, or several sites in one
  tower). It may have fewer rows, for cases that do not reach it, and never more;
- a loss has one row for each case, or the same number of rows for each, or fewer;
- at least one loss or layer has a row for every case.

The checks find layers whose uses are registered as towers, or whose positions are
flattened into the batch, and a wrong `batch_size`. They read shapes alone, so that they
work under a trace as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.layer_collection.sites import listed
from kfac_core.linearization import Linearization
from kfac_core.registered_losses import batch_size_of, loss_rows
from kfac_core.rows.uses import arrays_of


def check_cases(
    collection: LayerCollection,
    layers: Sequence[LayerRegistration],
    data: Mapping[str, tuple[Any, ...]],
    linearization: Linearization,
) -> dict[str, int]:
    """Check the rows of losses and layers against the number of cases.

    Args:
        collection: Where the losses are registered.
        layers: The layers whose data are about to be used.
        data: For each layer, by its name, what `kfac_core.estimator.layer_data`
            returns.
        linearization: The model at its parameters and a batch.

    Returns:
        For each layer with sites, by its name, the number of cases that reach it.

    Raises:
        ArgumentError: If the number of cases is not a positive integer, or larger than
            any number of rows.
        ShapeError: If a layer or a loss has more rows than it can have.
    """
    size = batch_size_of(linearization)
    most = loss_rows(collection, linearization)
    reached: dict[str, int] = {}
    for layer in layers:
        if not layer.towers:
            continue  # the gradients for its parameters have no rows
        first, *_ = data[layer.name]
        cases = _cases(layer, first if layer.block.takes_inputs else first[0])
        if cases > size:
            raise ShapeError(_too_many(layer, cases, size))
        most = max(most, cases)
        reached[layer.name] = cases
    # If only some layers are given, all cases may reach one of the others.
    if most < size and len(layers) == len(collection.layers):
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


def _rows(tower: Any) -> int:
    """Return the number of rows of one use; its block refuses what is not an array."""
    first, *_ = arrays_of(tower) or (None,)
    shape = getattr(first, "shape", ())
    return int(shape[0]) if shape else 0


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
