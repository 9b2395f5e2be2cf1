"""The towers of a layer's data, in the dtype of its statistics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import as_sources, as_towers
from kfac_core.backend import Backend
from kfac_core.rows.weights import sides, weights_for
from kfac_core.typing import Array, Weights


class Cases(NamedTuple):
    """One tower of a layer's data.

    Attributes:
        inputs: ``[cases, positions, inputs]``, with a one for the bias; for ids
            ``[cases, positions]``, below zero where one counts nothing. A layer in
            groups has an axis of groups before its features, in gradients, too.
        gradients: For each source ``[cases, positions, outputs]``.
        weights: ``[cases]`` or ``[cases, positions]``, as for the exact diagonal of a
            layer; None: one each.
    """

    inputs: Array
    gradients: tuple[Array, ...]
    weights: Array | None = None


class Data(NamedTuple):
    """What `update_covs` is given, checked by a block.

    Attributes:
        inputs: One tower, or a tuple of these.
        outputs_grads: One tower, a tuple of these, or a tuple over sources.
        weights: Weights of cases, or of cases and positions; None: one each.
        like: Array that gives the dtype of the statistics.
    """

    inputs: Any
    outputs_grads: Any
    weights: Weights | None
    like: Array


def at_each_id(backend: Backend, cases: Cases) -> Cases:
    """Return ids ``[cases, positions, m]`` as positions, each with its gradient."""
    xp, ids = backend.xp, cases.inputs
    if ids.ndim == 2:
        return cases
    count, positions, m = ids.shape

    def repeated(x: Array) -> Array:
        spread = xp.broadcast_to(
            x[:, :, None, ...], (count, positions, m, *x.shape[2:])
        )
        return xp.reshape(spread, (count, positions * m, *x.shape[2:]))

    weights = cases.weights
    if weights is not None and weights.ndim == 2:
        weights = repeated(weights)
    return Cases(
        xp.reshape(ids, (count, positions * m)),
        tuple(map(repeated, cases.gradients)),
        weights,
    )


def ids_of(backend: Backend, block: Any, ids: Array) -> Array:
    """Return ids ``[rows, m]``, below zero where one counts nothing."""
    known = block.input_factor._without_padding(backend, ids)
    return backend.xp.reshape(known, (known.shape[0], -1))


def as_statistics(backend: Backend, x: Array, like: Array) -> Array:
    """Return an array without its graph, in the dtype of the statistics."""
    known = backend.stop_gradient(x) if backend.has_graph(x) else x
    return backend.xp.astype(known, like.dtype, copy=False)


def floats(backend: Backend, data: Data) -> tuple[list[Array], list[tuple[Array, ...]]]:
    """Return towers and sources in the dtype of the statistics."""
    towers = [as_statistics(backend, x, data.like) for x in as_towers(data.inputs)]
    sources = [
        tuple(as_statistics(backend, g, data.like) for g in source)
        for source in as_sources(data.outputs_grads)
    ]
    return towers, sources


def weights_of(
    backend: Backend, data: Data, shapes: Sequence[tuple[int, ...]], label: str
) -> Sequence[Array] | None:
    """Return the weights of gradients, of each tower; None: one each."""
    return weights_for(backend, sides(data.weights)[1], shapes, data.like, label)


def with_one(backend: Backend, x: Array, has_bias: bool) -> Array:
    """Return features with a one for the bias, where there is one."""
    if not has_bias:
        return x
    ones = backend.xp.ones_like(x[..., :1])
    joined: Array = backend.xp.concat([x, ones], axis=-1)
    return joined


def joined(backend: Backend, parts: Sequence[Cases]) -> Cases:
    """Return the positions of the same cases, without weights, as one tower."""
    if len(parts) == 1:
        return parts[0]
    xp = backend.xp
    sources = zip(*(own.gradients for own in parts), strict=True)
    return Cases(
        xp.concat([own.inputs for own in parts], axis=1),
        tuple(xp.concat(list(own), axis=1) for own in sources),
    )


def zipped(
    inputs: Sequence[Array],
    sources: Sequence[tuple[Array, ...]],
    weights: Sequence[Array] | None,
) -> list[Cases]:
    """Return the towers: inputs, the gradients of all sources, and weights of each."""
    return [
        Cases(
            x,
            tuple(source[place] for source in sources),
            None if weights is None else weights[place],
        )
        for place, x in enumerate(inputs)
    ]
