"""How much the rows of each layer count, from the masks of losses and of sites.

A case whose losses have weight zero does not count at any layer; a case of weight ``m``
counts ``m`` times. Where a loss has several positions, a case has the largest weight of
its positions. A position that is masked at the loss may still matter within the model,
so that only a mask of the layer's own site removes rows from a case.

Where a row of a layer belongs to no single case, a linearization may say how much it
counts: `kfac_core.linearization.CountedLinearization`.

Output gradients already carry the roots of the losses' masks, so that in their
statistics a case counts once, or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.layer_collection import LayerRegistration
from kfac_core.linearization import Linearization
from kfac_core.loss_functions.positions import input_arrays
from kfac_core.registered_losses import LossAt
from kfac_core.registry import backend_of
from kfac_core.rows.uses import arrays_of
from kfac_core.typing import Array, Pair, RowWeights, Uses


def case_weights(
    losses: Iterable[LossAt], linearization: Linearization
) -> tuple[Array, ...] | None:
    """Return how much each case counts in all losses together.

    Args:
        losses: The losses, at their sites.
        linearization: The model at its parameters and a batch.

    Returns:
        For each tower ``[batch]``; None where all cases count one, or where the rows of
        a loss are not cases.
    """
    by_loss: dict[str, list[Array]] = {}
    for at in losses:
        if at.mask is None:
            return None
        own = _of_cases(at.mask, input_arrays(at.inputs)[0])
        by_loss.setdefault(at.name, []).append(own)
    if len({tuple(w.shape[0] for w in own) for own in by_loss.values()}) != 1:
        return None
    by_tower = []
    for weight, *others in zip(*by_loss.values(), strict=True):
        largest = weight
        for other in others:
            largest = backend_of(largest).xp.maximum(largest, other)
        by_tower.append(largest)
    if sum(w.shape[0] for w in by_tower) != linearization.batch_size:
        return None
    return tuple(by_tower)


def counting(
    layer: LayerRegistration,
    data: tuple[Any, ...],
    linearization: Linearization,
    cases: Sequence[Array] | None,
    reached: int,
) -> dict[str, Any]:
    """Return the options that tell a block how much its rows count.

    Args:
        layer: The layer.
        data: What `kfac_core.estimator.layer_data` returns.
        linearization: The model at its parameters and a batch.
        cases: What `case_weights` returns.
        reached: Number of cases that reach the layer.

    Returns:
        ``weights`` and ``num_cases`` of `FisherBlock.update_covs`, without those that
        have their default.
    """
    options: dict[str, Any] = {}
    inputs = data[0] if layer.block.takes_inputs else data[0][0]
    arrays = [tuple(map(_rows, arrays_of(tower))) for tower in inputs]
    if reached != linearization.batch_size:
        options["num_cases"] = linearization.batch_size
    of_cases = [None] * len(inputs) if cases is None else [*cases]
    if len(of_cases) != len(inputs):
        of_cases = [None] * len(inputs)
    masks, counts = linearization.masks, _row_counts(linearization)
    if of_cases[0] is None and not any(
        site in masks or site in counts for site in layer.sites
    ):
        return options
    pairs = [
        _of_tower(layer.name, sites, own, masks, counts, case)
        for sites, own, case in zip(layer.towers, arrays, of_cases, strict=True)
    ]
    options["weights"] = RowWeights(*zip(*pairs, strict=True))
    return options


def _of_tower(
    layer: str,
    sites: tuple[str, ...],
    arrays: Sequence[Array],
    masks: Mapping[str, Array],
    counts: Mapping[str, Array],
    case: Array | None,
) -> tuple[Any, Any]:
    """Return the weights of the inputs and of the gradients of one tower."""
    known_masks = [masks[site] for site in sites if site in masks]
    known_masks += [counts[site] for site in sites if site in counts]
    known_masks += [] if case is None else [case]
    backend = backend_for(layer, "layer_inputs, masks", *arrays, *known_masks)
    of_inputs, of_gradients = [], []
    for site, x in zip(sites, arrays, strict=True):
        mask: Array | None = masks.get(site)
        own: Array | None = counts.get(site)
        if own is not None:
            some = backend.xp.astype(own > 0, own.dtype)
            of_inputs.append(own if mask is None else own * mask)
            of_gradients.append(some if mask is None else some * mask)
            continue
        known = case if case is not None and _has_rows_of(x, case.shape[0]) else None
        once = None if known is None else backend.xp.astype(known > 0, known.dtype)
        if mask is None:
            mask = _ones(backend, x, x.shape[0] if known is None else known.shape[0])
        of_inputs.append(_times(backend, mask, known))
        of_gradients.append(_times(backend, mask, once))
    if len(sites) > 1:
        return Uses(tuple(of_inputs)), Uses(tuple(of_gradients))
    return of_inputs[0], of_gradients[0]


def _row_counts(linearization: Linearization) -> Mapping[str, Array]:
    """Return how much rows count, of a linearization that says so; else nothing."""
    counts: Mapping[str, Array] = getattr(linearization, "row_counts", {})
    return counts


def _rows(x: Array | Pair) -> Array:
    """Return an array with the rows of a site."""
    return x.first if isinstance(x, Pair) else x


def _has_rows_of(x: Array, cases: int) -> bool:
    """Return whether an array has rows of all cases, once or for each use."""
    if x.ndim > 2 and x.shape[1] == cases:
        return True
    return cases > 0 and x.shape[0] > 0 and x.shape[0] % cases == 0


def _of_cases(mask: Array, inputs: Array) -> Array:
    """Return the largest weight of each case, ``[batch]``."""
    backend = backend_of(mask, inputs)
    xp = backend.xp
    own = xp.astype(mask, inputs.dtype)
    return xp.max(xp.reshape(own, (own.shape[0], -1)), axis=1) if own.ndim > 1 else own


def _times(backend: Backend, mask: Array, case: Array | None) -> Array:
    """Return a mask of rows, times the weights of their cases."""
    if case is None:
        return mask
    xp = backend.xp
    axis = 0 if mask.shape[0] == case.shape[0] else 1
    if mask.ndim <= axis or mask.shape[axis] != case.shape[0]:
        return mask
    shape = [1] * mask.ndim
    shape[axis] = case.shape[0]
    return xp.astype(mask, case.dtype) * xp.reshape(case, tuple(shape))


def _ones(backend: Backend, x: Array, rows: int) -> Array:
    """Return a one for each row beside an array."""
    xp, device = backend.xp, backend.creation_device(x)
    return xp.ones((rows,), dtype=xp.float32, device=device)
