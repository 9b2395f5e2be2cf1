"""`check_linearization`: whether a model gives what K-FAC takes, for adapters' authors.

An optimiser cannot see that the rows of a model are wrong: it trains, and badly. Each
check here has an answer that follows from the definition of a
`kfac_core.linearization.Linearization`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import check_named
from kfac_core.linearization import Model, NamedLossInputs, NamedParams
from kfac_core.linearization.checked import (
    check_is_collection,
)
from kfac_core.loss_functions.positions import input_arrays, like_inputs
from kfac_core.registered_losses import (
    batch_size_of,
    loss_gradient,
    loss_rows,
    losses_at,
)
from kfac_core.registry import backend_of
from kfac_core.testing.candidate import require
from kfac_core.testing.tried_model import TOLERANCE, Tried
from kfac_core.typing import Array

LABEL = "check_linearization"

DIFFERENCE = 0.02
"""What a difference quotient may differ by, of a model with kinks as well."""


def check_linearization(
    model: Model[Any],
    layer_collection: LayerCollection,
    params: NamedParams,
    batch: Any,
) -> tuple[str, ...]:
    """Check what a model gives, at some parameters and a batch.

    The two products with the Jacobian must be transposes of each other, and derivatives
    of the loss inputs. What a layer's outputs get must give what its parameters get,
    one row for each case, of the summed loss. Shapes of masks and targets must fit, and
    nothing may keep alive what it was computed from. Use a batch of at least two cases
    that differ, in float64 if the model can.

    Args:
        model: The model.
        layer_collection: Its layers and losses.
        params: For every parameter its value, by name.
        batch: Data, of whatever form the model takes.

    Returns:
        What was checked.

    Raises:
        ArgumentError: If the model has one case alone, so that nothing can be told.
        AssertionError: If a check fails; the message names all that do, and what to do.
        KfacError: Where the model gives what no verb of the library takes.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(2, 3),)))
        >>> rng = np.random.default_rng(0)
        >>> batch = Batch(rng.normal(size=(4, 2)), rng.normal(size=(4, 3)))
        >>> params = model.init(rng, like=batch.inputs)
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss())
        >>> check_linearization(model, collection, params, batch)[:2]
        ('shapes fit', 'products are transposes')
    """
    check_is_collection(layer_collection, "layer_collection", LABEL)
    layer_collection.check_registration()
    check_named(params, dict(layer_collection.variables), "params", LABEL)
    if not callable(getattr(model, "linearize", None)):
        msg = (
            f"{LABEL}: model is a {type(model).__name__} without a method linearize,"
            " expected a kfac_core.linearization.Model"
        )
        raise ArgumentError(msg)
    tried = Tried(model, layer_collection, params, batch)
    count = batch_size_of(tried.known)
    if count < 2:
        msg = (
            f"{LABEL}: the batch has one case, which cannot tell a sum over"
            " cases from a mean; give at least two that differ"
        )
        raise ArgumentError(msg)
    failures = []
    for name, check in CHECKS.items():
        try:
            check(tried)
        except AssertionError as error:
            failures.append(f"{name}: {error}")
    if failures:
        msg = f"the model fails {len(failures)} of {len(CHECKS)} checks:" + "".join(
            f"\n- {failure}" for failure in failures
        )
        raise AssertionError(msg)
    return tuple(CHECKS)


def _shapes_fit(tried: Tried) -> None:
    loss_rows(losses_at(tried.collection, tried.known), tried.known)
    known = {site for loss in tried.collection.losses for site in loss.towers}
    layers = {site for layer in tried.collection.layers for site in layer.sites}
    for what, given, sites in (
        ("targets", tried.known.targets, known),
        ("masks", tried.known.masks, known | layers),
    ):
        unknown = sorted(set(given) - sites)
        require(
            not unknown,
            f"{what} has the sites {unknown}, which are not registered; registered are"
            f" {sorted(sites)}",
        )
    _at_losses(tried)  # the losses check their targets


def _products_are_transposes(tried: Tried) -> None:
    tangents = {name: tried.random(x) for name, x in tried.params.items()}
    vectors = tried.vectors()
    pushed = tried.known.push_forward(tangents)
    pulled = tried.known.param_gradients(vectors)
    left, right = tried.product(vectors, pushed), tried.product(pulled, tangents)
    scale = tried.size(vectors) * tried.size(pushed) + tried.size(pulled) * tried.size(
        tangents
    )
    count = tried.known.batch_size
    ratio = right / left if left else float("nan")
    hint = "one of the two is not the derivative of the loss inputs"
    if abs(ratio * count - 1) < 1e-3:
        hint = (
            "param_gradients is divided by the number of cases: return the sum over"
            " cases, as of the summed loss"
        )
    require(
        abs(left - right) <= tried.tolerance * scale,
        f"<v, push_forward(t)> is {left:.6g}, but <param_gradients(v), t> is"
        f" {right:.6g}: {hint}",
    )


def _gradients_are_linear(tried: Tried) -> None:
    vectors = tried.vectors()
    twice = {
        site: like_inputs(vector, [2 * x for x in input_arrays(vector)])
        for site, vector in vectors.items()
    }
    for method in ("param_gradients", "output_gradients"):
        once = getattr(tried.known, method)(vectors)
        again = getattr(tried.known, method)(twice)
        difference = {name: again[name] - 2 * once[name] for name in once}
        require(
            tried.size(difference) <= tried.tolerance * tried.size(again),
            f"{method}(2 v) is not 2 {method}(v): a gradient that was kept from an"
            " earlier call, or one of a fixed loss, is added",
        )


def _rows_are_of_cases(tried: Tried) -> None:
    """A vector at one case must leave the rows of all other cases zero."""
    counted = set(tried.known.row_counts)
    count = tried.known.batch_size
    vectors = {
        site: like_inputs(v, [_first_row(tried.backend, x) for x in input_arrays(v)])
        for site, v in tried.vectors().items()
    }
    if any(input_arrays(v)[0].shape[0] != count for v in vectors.values()):
        return
    for site, g in tried.known.output_gradients(vectors).items():
        if site in counted or g.shape[0] != count:
            continue
        others = tried.number(tried.backend.xp.sum(tried.backend.xp.abs(g[1:, ...])))
        require(
            others == 0,
            f"the vector of the first case alone reaches rows of other cases at the"
            f" layer {site!r}: one row for each case is expected, first axis the batch;"
            " a model that mixes cases (batch norm) or has another order of rows gives"
            " row_counts, or cannot be taken",
        )


def _rows_are_of_the_sum(tried: Tried) -> None:
    """What the outputs of a layer get must give what its parameters get."""
    vectors = _at_losses(tried)
    gradients = tried.known.param_gradients(vectors)
    rows, inputs = tried.known.output_gradients(vectors), tried.known.layer_inputs
    for layer in tried.collection.layers:
        if len(layer.sites) != 1 or layer.sites[0] not in rows:
            continue
        (site,) = layer.sites
        for name in layer.params:
            if name not in gradients:  # a part of a parameter
                continue
            own, x = gradients[name], inputs.get(site)
            for expected in _expected(tried.backend, x, rows[site], own):
                _compare_rows(tried, site, name, own, expected)


def _expected(
    backend: Backend, x: Array | None, g: Array, own: Array
) -> Iterator[Array]:
    """Yield the gradient of a bias or of a dense layer, from its inputs and outputs."""
    xp, size = backend.xp, g.shape[-1]
    flat = xp.reshape(g, (-1, size))
    if tuple(own.shape) == (size,):
        yield xp.sum(flat, axis=0)
    elif x is not None and x.dtype == g.dtype and x.shape[:-1] == g.shape[:-1]:
        product = xp.reshape(x, (-1, x.shape[-1])).mT @ flat
        if tuple(own.shape) == tuple(product.shape) and own.shape[0] != own.shape[1]:
            yield product
        elif tuple(own.shape) == tuple(product.mT.shape) != tuple(product.shape):
            yield product.mT


def _compare_rows(
    tried: Tried, site: str, name: str, own: Array, expected: Array
) -> None:
    count, size = tried.known.batch_size, tried.size({"": own})
    limit = 10 * tried.tolerance * max(size, tried.size({"": expected}))
    if tried.size({"": own - expected}) <= limit:
        return
    hint = "the rows are not the gradients for the outputs of this layer"
    if tried.size({"": own - count * expected}) <= 1e-3 * size:
        hint = (
            "they are of the mean loss: multiply them by the number of cases, as the"
            f" rows must be of the summed loss; the statistics would be {count**2}"
            " times too small, and training would go on, badly"
        )
    msg = (
        f"the output gradients at {site!r} do not give the gradient of {name!r}: {hint}"
    )
    raise AssertionError(msg)


def _derivatives_are_of_the_loss_inputs(tried: Tried) -> None:
    """Compare with a central difference, whose error is of the order of its step."""
    eps = tried.tolerance / TOLERANCE
    step = eps ** (1 / 3)
    tangents = {name: tried.random(x) for name, x in tried.params.items()}
    pushed = tried.known.push_forward(tangents)
    ends = [
        tried.linearized(
            {k: x + sign * step * tangents[k] for k, x in tried.params.items()}
        )
        for sign in (1, -1)
    ]
    for at in losses_at(tried.collection, tried.known):
        changes = input_arrays(pushed[at.site])
        pairs = (input_arrays(end.loss_inputs[at.site]) for end in ends)
        for change, after, before in zip(changes, *pairs, strict=True):
            found = (after - before) / (2 * step)
            scale = max(tried.size({"": found}), tried.size({"": change}))
            size = tried.size({"": change - found})
            require(
                size <= DIFFERENCE * scale,
                f"push_forward at {at.site!r} differs from a difference quotient of the"
                f" loss inputs by {size / scale if scale else 0:.2g} of its length: it"
                " is the derivative of something else, or the model draws random"
                " numbers, or remembers batches",
            )


def _nothing_is_kept_alive(tried: Tried) -> None:
    vectors = _at_losses(tried)
    found: dict[str, Callable[[], Mapping[str, Any]]] = {
        "layer_inputs": lambda: tried.known.layer_inputs,
        "output_gradients": lambda: tried.known.output_gradients(vectors),
        "param_gradients": lambda: tried.known.param_gradients(vectors),
    }
    for name, get in found.items():
        kept = [site for site, x in get().items() if backend_of(x).has_graph(x)]
        require(
            not kept,
            f"{name} keeps alive what {kept} were computed from: detach them, or every"
            " step holds the memory of the one before",
        )


def _at_losses(tried: Tried) -> NamedLossInputs:
    """Return the gradients at the targets, or any vectors where there are none."""
    sites = {at.site for at in losses_at(tried.collection, tried.known)}
    if sites <= set(tried.known.targets):
        return loss_gradient(tried.collection, tried.known)
    return tried.vectors()


def _first_row(backend: Backend, x: Array) -> Array:
    return backend.xp.concat([x[:1, ...], backend.xp.zeros_like(x[1:, ...])])


CHECKS: dict[str, Callable[[Tried], None]] = {
    "shapes fit": _shapes_fit,
    "products are transposes": _products_are_transposes,
    "derivatives are of the loss inputs": _derivatives_are_of_the_loss_inputs,
    "gradients are linear": _gradients_are_linear,
    "rows are of cases": _rows_are_of_cases,
    "rows are of the summed loss": _rows_are_of_the_sum,
    "nothing is kept alive": _nothing_is_kept_alive,
}
"""What is checked, by its name."""
